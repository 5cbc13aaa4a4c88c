"""Other systems' own tables and formats, one file for each."""
