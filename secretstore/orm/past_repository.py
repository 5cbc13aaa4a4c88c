"""Reads the secrets of one namespace as they were, on a session that belongs to the caller."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Executable, Result
from sqlalchemy.orm import Session

from secretstore.domain.names import Key, Namespace
from secretstore.domain.records import SecretInfo
from secretstore.orm import past_statements as statements
from secretstore.orm.execute import execute
from secretstore.orm.reads import Page, State, StoredValue, state_of
from secretstore.orm.visibility import check_may


class PastRepository:
    """The rows of one namespace as they were at a moment, on the caller's session, whose transaction stays the caller's.

    An envelope that is gone by now is None.
    """

    def __init__(self, session: Session, namespace: Namespace, moment: datetime) -> None:
        self._session = session
        self._namespace = namespace
        self._moment = moment

    def find_value(self, key: Key, version: int | None = None) -> StoredValue | None:
        """Return the envelope of a secret that was there, in its version of then or an older one."""
        statement = statements.select_value() if version is None else statements.select_value_of_version()
        row = self._execute(statement, key=key, **({} if version is None else {"version": version})).one_or_none()
        return None if row is None else StoredValue(row.key, row.version, row.value)

    def find_values(self, keys: Sequence[Key]) -> list[StoredValue]:
        """Return the envelopes of those secrets that were there, in no order."""
        rows = self._execute(statements.select_values(), keys=list(keys))
        return [StoredValue(row.key, row.version, row.value) for row in rows]

    def list_values(self, page: Page) -> list[StoredValue]:
        """Return a page of envelopes by key."""
        rows = self._execute(statements.select_page_of_values(), **page.parameters())
        return [StoredValue(row.key, row.version, row.value) for row in rows]

    def list_states(self, page: Page) -> list[State]:
        """Return a page of all that a file has of secrets."""
        return [state_of(row) for row in self._execute(statements.select_page_of_states(), **page.parameters())]

    def list_keys(self, page: Page) -> list[str]:
        """Return a page of keys."""
        return list(self._execute(statements.select_page_of_keys(), **page.parameters()).scalars())

    def list_infos(self, page: Page, labels: Mapping[str, str]) -> list[SecretInfo]:
        """Return a page of records without values, of those secrets only that carried all of `labels`."""
        statement = statements.select_page_of_infos(by_labels=bool(labels))
        rows = self._execute(statement, **page.parameters(), **({"labels": labels} if labels else {}))
        return [SecretInfo(**row._asdict()) for row in rows]

    def find_info(self, key: Key) -> SecretInfo | None:
        """Return what was known of a secret without its value."""
        row = self._execute(statements.select_info(), key=key).one_or_none()
        return None if row is None else SecretInfo(**row._asdict())

    def check_may(self, keys: Iterable[str], *_: str) -> None:
        """Raise `PermissionDeniedError` where the role may not see the past of keys that were not found."""
        history = frozenset({"history"})
        check_may(lambda statement, _: self._execute(statement).all(), self._namespace, keys, history)

    def count(self, prefix: str) -> int:
        """Return how many secrets had keys with a prefix."""
        parameters = Page(prefix).parameters()
        del parameters["limit"]
        return int(self._execute(statements.select_count(), **parameters).scalar_one())

    def _execute(self, statement: Executable, **parameters: object) -> Result[Any]:
        return execute(self._session, statement, namespace=self._namespace, moment=self._moment, **parameters)
