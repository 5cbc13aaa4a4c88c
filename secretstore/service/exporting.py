"""Reads whole secrets, page by page, as they are or as they were."""

from collections.abc import Callable, Iterable
from datetime import datetime

from secretstore.domain.accesses import Accessed
from secretstore.domain.names import Key
from secretstore.domain.records import ExportedSecret
from secretstore.orm.reads import Page, State, StoredValue
from secretstore.service.reading import OpenedValue, SecretReader
from secretstore.service.synchronous import SecretService
from secretstore.service.typed import from_json_as

PAGE = 500


def read_page(service: SecretService, page: Page, moment: datetime | None) -> list[ExportedSecret]:
    """Return a page of whole secrets; raises `VersionGoneError` where a value of then is gone."""
    reader = service if moment is None else service.as_of(moment)
    found = open_states(reader, lambda: reader._source.list_states(page))
    if reader._on_read is not None and found:
        reader._on_read([Accessed(state.value.key, state.value.version, "export") for state, _ in found])
    return [
        ExportedSecret(
            key=state.value.key,
            value=from_json_as(opened.text, None, name=opened.place),
            labels=state.labels,
            expires_at=state.expires_at,
        )
        for state, opened in found
    ]


def open_states(reader: SecretReader, find: Callable[[], Iterable[State]]) -> list[tuple[State, OpenedValue]]:
    """Return what is found, each with its value; looks once more where a data key was replaced meanwhile."""
    found: dict[Key, State] = {}

    def find_values() -> list[StoredValue]:
        found.clear()
        found.update((state.value.key, state) for state in find())
        return [state.value for state in found.values()]

    opened = reader._open_all(find_values)
    return [(found[key], value) for key, value in opened.items()]
