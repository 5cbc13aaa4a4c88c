"""What no statement of the library may do, so that it runs on poolers, replicas and distributed tables too."""

import re

_ALLOWED_IN_DO_UPDATE = {"coalesce", "greatest", "least", "cast", "and", "or", "not", "in", "when"}
_FORBIDDEN = {
    "a trigger": r"\bCREATE\s+(OR\s+REPLACE\s+)?(CONSTRAINT\s+)?TRIGGER\b",
    "a function or procedure": r"\bCREATE\s+(OR\s+REPLACE\s+)?(FUNCTION|PROCEDURE)\b|\bDO\s+\$",
    "a sequence": r"\bCREATE\s+SEQUENCE\b|\b(BIG|SMALL)?SERIAL\b|\bGENERATED\s+(ALWAYS|BY\s+DEFAULT)\s+AS\s+IDENTITY\b",
    "SELECT *": r"\bSELECT\s+(DISTINCT\s+)?(\w+\.)*\*",
    "RETURNING *": r"\bRETURNING\s+(\w+\.)*\*",
    "SET without LOCAL": r"(^|;)\s*SET\s+(?!LOCAL\b)",
    "a session's advisory lock": r"\bpg_(try_)?advisory_(lock|unlock)",
    "set_config": r"\bset_config\s*\(",
    "jsonb_set": r"\bjsonb_set\s*\(",
    "LISTEN": r"(^|;)\s*(UN)?LISTEN\b",
    "PREPARE": r"(^|;)\s*PREPARE\b",
    "a temporary table": r"\bCREATE\s+(TEMP|TEMPORARY|UNLOGGED)\b",
    "LOCK TABLE": r"(^|;)\s*LOCK\b",
    "MERGE": r"(^|;|\()\s*MERGE\b",
    "DECLARE WITH HOLD": r"\bWITH\s+HOLD\b",
}
_WRITES = r"\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+secretstore\.(?!alembic_version)"


def violations(statement: str) -> list[str]:
    """Return what is forbidden in a statement."""
    found = [name for name, pattern in _FORBIDDEN.items() if _holds(pattern, statement)]
    if _holds(r"\bFOR\s+(NO\s+KEY\s+)?(UPDATE|SHARE)\b", statement) and not _names_namespace(statement):
        found.append("a row lock without one namespace")
    if _holds(_WRITES, statement) and "namespace" not in statement:
        found.append("a write without a namespace")
    if _holds(r"\bUPDATE\s+[\w.]+\s+(AS\s+\w+\s+)?SET\b.*\bclock_timestamp\s*\(", statement):
        found.append("clock_timestamp() in an UPDATE")
    return found + [f"{name}() in DO UPDATE SET" for name in _called_in_do_update(statement)]


def _holds(pattern: str, statement: str) -> bool:
    return re.search(pattern, statement, re.IGNORECASE | re.DOTALL) is not None


def _names_namespace(statement: str) -> bool:
    return _holds(r"\bnamespace\s*=\s*(%\(|%s|\$|')", statement)


def _called_in_do_update(statement: str) -> list[str]:
    parts = re.split(r"\bDO\s+UPDATE\s+SET\b", statement, flags=re.IGNORECASE)[1:]
    assigned = [re.split(r"\bRETURNING\b", part, flags=re.IGNORECASE)[0] for part in parts]
    calls = [name for part in assigned for name in re.findall(r"(?<![%\w])(\w+)\s*\(", part)]
    clocks = [name for part in assigned for name in re.findall(r"\bCURRENT_\w+", part, re.IGNORECASE)]
    return [name for name in map(str.lower, calls + clocks) if name not in {*_ALLOWED_IN_DO_UPDATE, "where"}]
