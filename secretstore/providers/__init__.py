"""Places that secrets can be read from and written to, each in a file of its own."""
