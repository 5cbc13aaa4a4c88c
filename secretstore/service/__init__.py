"""What the library does, on a session that belongs to the caller; imported file by file, as `client` is."""
