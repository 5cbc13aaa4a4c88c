"""The stand-alone faces; each is imported from its own file, so that who blocks never loads what awaits."""
