"""Compares two providers, and copies secrets from one to the other."""
