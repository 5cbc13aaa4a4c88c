"""Everything that knows SQLAlchemy; sessions come from outside."""
