"""Words and decisions: standard library only, no clock, no SQL."""
