"""All cryptography, and the one room that imports `cryptography`."""
