"""Prints how much memory a copy of so many secrets takes at most, between places that hold none of them.

`python moved_peak.py NUMBER`
"""

import sys
import tracemalloc
from bisect import bisect_right
from collections.abc import Mapping

from secretstore import copy_secrets
from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, Version
from secretstore.providers.base import Provider


class Endless(Provider):
    """Makes up so many secrets, each when it is asked for, and forgets what is written."""

    abilities = frozenset({Ability.WRITE})

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self._number = number

    def read(self, key: str, *, version: Version | None = None) -> ProvidedSecret | None:
        """Make a value up."""
        if not self._number:
            return None
        return ProvidedSecret(value_json=b'"' + b"x" * 2000 + b'"', info=ProvidedInfo(provider=self.name, key=key))

    def list_keys(self, prefix: str = "", *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Make keys up."""
        numbers = range(self._number)
        begin = 0 if after is None else bisect_right(numbers, int(after))
        return [f"{number:09}" for number in numbers[begin:][:limit]]

    def write(
        self,
        key: str,
        value_json: bytes,
        *,
        expected_version: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> ProvidedInfo:
        """Forget it."""
        return ProvidedInfo(provider=self.name, key=key)


def main(number: int) -> None:
    """Copy once for what is loaded late, and then for the measure."""
    copy_secrets(Endless("few", 200), Endless("none", 0))
    tracemalloc.start()
    copy_secrets(Endless("many", number), Endless("none", 0))
    sys.stdout.write(str(tracemalloc.get_traced_memory()[1]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
