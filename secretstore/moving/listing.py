"""The keys of two providers side by side, in order, and never all of them in memory."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from secretstore.domain.providers import SecretProvider
from secretstore.moving.mapping import KeyMap

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Listed:
    """A key that is listed on one side or on both."""

    source_key: str
    key: str
    in_source: bool


def listed_keys(provider: SecretProvider, prefix: str) -> Iterator[str]:
    """Return keys page by page."""
    page = provider.list_keys(prefix, limit=_PAGE)
    while len(page) == _PAGE:
        yield from page
        page = provider.list_keys(prefix, after=page[-1], limit=_PAGE)
    yield from page


def side_by_side(source_keys: Iterable[str], target_keys: Iterable[str], keys: KeyMap) -> Iterator[Listed]:
    """Return each key once, in the order of the target."""
    ours = ((keys.target_key(key), True) for key in source_keys)
    theirs = ((key, False) for key in target_keys)
    for key, sides in groupby(heapq.merge(ours, theirs), key=itemgetter(0)):
        yield Listed(keys.source_key(key), key, in_source=any(is_ours for _, is_ours in sides))
