"""Every statement of the library, as PostgreSQL gets it."""

import inspect
import re
from collections.abc import Callable
from functools import partial

import pytest
from sqlalchemy import Executable
from sqlalchemy.sql import ClauseElement

from secretstore.orm import (
    checkpoint_statements,
    event_statements,
    key_statements,
    past_statements,
    statements,
    write_statements,
)
from secretstore.orm.engines import make_engine
from secretstore.orm.models import AccessEvent, Base, ChangeEvent, SecretStore, SecretVersion
from secretstore.orm.statements import Show
from tests.support.sql_rules import violations

Build = Callable[[], Executable]

DIALECT = make_engine("postgresql://").dialect

# About the keys of all namespaces on purpose.
OF_ALL_NAMESPACES = {
    "select_age_of_last_checkpoint",
    "select_data_keys_in_use",
    "select_data_keys_to_rewrap",
    "select_infos of all",
    "select_master_keys",
    "select_most_used",
    "select_namespaces",
}
# About no rows at all.
OF_NO_TABLE = {
    "select_can_record",
    "select_may_update",
    "limit_waiting",
    "lock_checkpoints",
    "lock_numbers",
    "notify",
    "notify_all",
    "propagate_settings",
    "select_moment",
    "select_now",
}
OF_A_LIST = (statements.select_page_of_infos, statements.select_page_of_keys, statements.select_count)


def _has_no_parameters(build: Build) -> bool:
    return hasattr(build, "cache_info") and not inspect.signature(build).parameters


def select_page_of_events(table: event_statements.EventTable) -> Executable:
    """The page of events by everything that there is to ask for."""
    return event_statements.select_page_of_events(
        table, frozenset({"secrets", "since", "key", "actor", "action", "outcome"})
    )


BUILDERS: dict[str, Build] = {
    **{
        name: build
        for module in (statements, write_statements, event_statements, key_statements, checkpoint_statements)
        for name, build in vars(module).items()
        if callable(build) and _has_no_parameters(build)
    },
    **{
        f"{name} of then": build
        for name, build in vars(past_statements).items()
        if callable(build) and _has_no_parameters(build)
    },
    "select_page_of_infos of then": lambda: past_statements.select_page_of_infos(by_labels=False),
    "select_page_of_infos of then by labels": lambda: past_statements.select_page_of_infos(by_labels=True),
    **{f"{build.__name__} {show.value}": partial(build, show) for show in Show for build in OF_A_LIST},
    "select_page_of_infos by all": lambda: statements.select_page_of_infos(
        Show.LIVE, by_labels=True, expiring=True, unchanged=True
    ),
    **{
        f"{build.__name__} {table.__tablename__}": partial(build, table)
        for table in (ChangeEvent, AccessEvent)
        for build in (
            event_statements.select_is_unnumbered,
            event_statements.number_events,
            event_statements.select_last_number,
            select_page_of_events,
            checkpoint_statements.select_sealed_events,
            checkpoint_statements.select_first_before,
            checkpoint_statements.select_count_of_unsealed,
            checkpoint_statements.select_out_of_place,
        )
    },
    "select_infos": lambda: key_statements.select_infos(of_all=False),
    "select_infos of all": lambda: key_statements.select_infos(of_all=True),
    **{
        f"{build.__name__} {table.__tablename__}": partial(build, table, **options)
        for table in (SecretStore, SecretVersion)
        for build, options in (
            (key_statements.select_page_of_sealed, {}),
            (key_statements.replace_envelopes, {"skip_locked": True}),
        )
    },
}
EACH = pytest.mark.parametrize("name", BUILDERS)
EACH_OF_ONE_NAMESPACE = pytest.mark.parametrize(
    "name", [name for name in BUILDERS if name not in OF_ALL_NAMESPACES | OF_NO_TABLE]
)


def sql(name: str) -> str:
    """The text of a statement for psycopg."""
    statement = BUILDERS[name]()
    assert isinstance(statement, ClauseElement)
    return str(statement.compile(dialect=DIALECT))


def test_the_statements_are_found() -> None:
    """The list that the other tests go through is that of the module."""
    writing = {"write_secrets", "import_secrets", "delete_secrets"}
    expected = {"select_value", "select_values", "select_stored", "select_heads", *writing, *OF_ALL_NAMESPACES}

    assert expected <= BUILDERS.keys()
    assert len(BUILDERS) >= 38


@EACH
def test_a_statement_breaks_no_rule(name: str) -> None:
    """What the library sends runs on poolers, replicas and distributed tables."""
    assert violations(sql(name)) == []


@EACH
def test_a_statement_is_built_once(name: str) -> None:
    """The same object each time, so that SQLAlchemy finds its compiled form again."""
    assert BUILDERS[name]() is BUILDERS[name]()


@EACH_OF_ONE_NAMESPACE
def test_a_statement_names_its_namespace_as_a_parameter(name: str) -> None:
    """Each statement says on which namespace it works, and the parameter is always called the same."""
    assert "%(given_namespace)s" in sql(name)


@pytest.mark.parametrize("name", [name for name in BUILDERS if name.startswith(("select_", "delete_"))])
def test_a_statement_that_reads_compares_the_namespace(name: str) -> None:
    """One namespace by `=`, except where all namespaces are asked for."""
    found = re.findall(r"\w+\.namespace = %\(given_namespace\)s", sql(name))

    assert bool(found) == (name not in OF_ALL_NAMESPACES | OF_NO_TABLE)


@EACH
def test_a_statement_names_its_columns(name: str) -> None:
    """No `*` in any list of columns, only in `count(*)`, and where microseconds are counted."""
    assert "*" not in sql(name).replace("count(*)", "").replace(" * 1000000", "")


@EACH
def test_no_value_is_written_into_a_statement(name: str) -> None:
    """All that varies comes as a parameter: the text holds no literal beside states, actions, empty labels and settings."""
    assert set(re.findall(r"'([^']*)'", sql(name))) <= {
        *("active", "set", "import", "labels", "delete", "undelete", "purge", "destroy"),
        *("{}", "shredded", "retired", "audit"),
        # A row that is always rolled back, and settings of one transaction, which take no parameters.
        "",
        *("local", "2s"),
    }


@EACH
def test_parameters_are_told_from_columns(name: str) -> None:
    """No parameter is named like a column, because SQLAlchemy would take it for a new value of that column."""
    names = set(re.findall(r"%\((\w+)\)s", sql(name)))
    columns = {column.name for table in Base.metadata.tables.values() for column in table.columns}

    assert names & columns == set()


def test_parameters_get_the_prefix() -> None:
    """Values are given under the names that the statements use."""
    assert statements.parameters(namespace="n", key="k") == {"given_namespace": "n", "given_key": "k"}


@pytest.mark.parametrize(
    "name", ["select_value_to_keep", "select_values", "select_page_of_values", "select_count live"]
)
def test_readers_see_only_what_is_there(name: str) -> None:
    """Deleted and expired secrets are passed over by the database."""
    assert "deleted_at IS NULL" in sql(name)
    assert "expires_at IS NULL" in sql(name)
    assert "expires_at > now()" in sql(name)


def test_the_hot_read_is_told_what_is_there() -> None:
    """It asks whether a secret is deleted or expired, by the clock of the database, in place of selecting by it."""
    columns = sql("select_value").partition("FROM")[0]

    assert "s.deleted_at IS NOT NULL OR s.expires_at <= CURRENT_TIMESTAMP AS is_gone" in columns


@pytest.mark.parametrize(
    "name",
    [
        *("select_info", "select_page_of_infos live", "select_page_of_infos expired", "select_page_of_infos by all"),
        *("select_info of then", "select_page_of_infos of then", "select_versions"),
    ],
)
def test_records_are_read_without_values(name: str) -> None:
    """What never decrypts does not even fetch a ciphertext."""
    assert not re.search(r"\bvalue\b", sql(name))


@pytest.mark.parametrize(
    "name",
    [
        *("write_secrets", "import_secrets", "delete_secrets", "undelete_secrets"),
        *("set_labels", "purge_secrets", "destroy_versions"),
    ],
)
def test_a_change_and_its_record_are_one_statement(name: str) -> None:
    """Whoever changes a head writes the change event in the same statement."""
    assert "INSERT INTO secretstore.change_event" in sql(name)
    assert sql(name).count("secretstore.secret_store") >= 1


def test_rows_are_locked_in_the_order_of_their_keys() -> None:
    """Two batches that share keys cannot wait for each other in a circle."""
    written, imported, locked = sql("write_secrets"), sql("import_secrets"), sql("lock_heads")

    for statement in (written, imported):
        assert re.search(r'ORDER BY \(?rows\.key COLLATE "C"\)?\s', statement)
    assert re.search(r"ORDER BY secretstore\.secret_store\.key\s+FOR UPDATE", locked)


def test_only_an_import_brings_its_own_times() -> None:
    """Times come with the rows of an import, and the later change wins; any other write leaves time to PostgreSQL.

    It then waits for its turn, and takes a later time where something changed meanwhile.
    """
    written, imported = sql("write_secrets"), sql("import_secrets")

    assert "AND secretstore.secret_store.updated_at < excluded.updated_at" in imported
    assert "OR secretstore.secret_store.updated_at < excluded.updated_at" in written
    assert "given_is_locked" in written
    assert "%(given_created_ats)s" in imported
    for of_imports in ("given_created_ats", "given_updated_ats"):
        assert of_imports not in written


def test_a_page_is_a_range_of_the_primary_key() -> None:
    """No pattern match: prefix and page are comparisons of the key."""
    page = sql("select_page_of_keys live")

    assert "LIKE" not in page
    for comparison in (">= %(given_prefix)s", "< %(given_prefix_end)s", "> %(given_after)s", "LIMIT %(given_limit)s"):
        assert comparison in page
