"""What is in the tables, and what time it is there, asked past the library."""

from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

HEADS = "SELECT * FROM secretstore.secret_store ORDER BY namespace, key"
VERSIONS = "SELECT * FROM secretstore.secret_version ORDER BY namespace, key, version"
LABEL_CHANGES = "SELECT * FROM secretstore.label_change ORDER BY namespace, key, version, changed_at"
EVENTS = "SELECT * FROM secretstore.change_event ORDER BY namespace, occurred_at, key, version, action"


def rows(raw: psycopg.Connection, statement: str) -> list[dict[str, Any]]:
    """Return the rows that a statement answers with."""
    return raw.cursor(row_factory=dict_row).execute(statement.encode()).fetchall()


def told(raw: psycopg.Connection) -> list[tuple[str, int, str, str]]:
    """Return key, version, action and actor of every committed change, in their order."""
    return [(event["key"], event["version"], event["action"], event["actor"]) for event in rows(raw, EVENTS)]


def now(raw: psycopg.Connection) -> datetime:
    """Return what time it is in the database."""
    (row,) = rows(raw, "SELECT clock_timestamp() AS moment")
    moment: datetime = row["moment"]
    return moment
