"""What PostgreSQL knows of our tables, to compare two ways of making them."""

import psycopg

_TABLES = "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('secretstore') AND relkind = 'r'"
_CATALOGUE = """
SELECT format('column %s.%s %s %s %s %s %s', table_name, column_name, data_type, is_nullable, column_default,
              collation_name, generation_expression)
  FROM information_schema.columns WHERE table_schema = 'secretstore'
UNION ALL
SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
  FROM pg_constraint WHERE connamespace = to_regnamespace('secretstore')
UNION ALL
SELECT format('index %s', indexdef) FROM pg_indexes WHERE schemaname = 'secretstore'
"""

VERSION_TABLE = {"alembic_version"}
OUR_TABLES = {
    *("access_event", "audit_checkpoint", "change_event", "data_key", "data_key_use", "label_change"),
    *("namespace_setting", "secret_store", "secret_version"),
}


def tables(raw: psycopg.Connection) -> set[str]:
    """Return the names of the tables in our schema."""
    return {name for (name,) in raw.execute(_TABLES)}


def catalogue(raw: psycopg.Connection) -> set[str]:
    """Return every column, constraint and index in our schema, in PostgreSQL's own words."""
    return {line for (line,) in raw.execute(_CATALOGUE)}
