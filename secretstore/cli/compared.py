"""Shows how secrets differ from what they are to be: with a dry run also where in their values, and how."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from secretstore import SecretDifference
from secretstore.cli import output
from secretstore.cli.output import MASK, Format
from secretstore.service import differences as places

_KINDS = ("added", "changed", "labels", "unchanged", "extra", "deleted")
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Comparison:
    """How differences are shown; only a dry run looks into values, which it masks unless they are to be revealed."""

    wanted: Format
    dry_run: bool
    reveal: bool

    def show(self, found: Iterable[SecretDifference], **more: Sequence[str]) -> None:
        """Print what differs, how many secrets of each kind there are, and what else a program wants to know."""
        counts = dict.fromkeys(_KINDS, 0)
        differing = _differing(found, counts)
        if self.wanted is Format.TABLE:
            self._show_table(differing)
            output.say(_in_words(counts))
        else:
            rest = {"counts": counts} | {name: list(keys) for name, keys in more.items()}
            output.show_list("differences", map(self._record, differing), rest, self.wanted)
        if self.dry_run and not self.reveal and sum(counts.values()) > counts["unchanged"]:
            output.say("the values are hidden; add --reveal to see them")
        if self.dry_run:
            output.say("dry run: nothing was written")

    def _show_table(self, differing: Iterator[SecretDifference]) -> None:
        columns = ("key", "kind", "path", "old", "new") if self.dry_run else ("key", "kind")
        rows = (row for one in differing for row in self._rows(one))
        # All rows of a table have to be known before it is printed, and so it is no longer than this.
        while page := list(islice(rows, _PAGE)):
            output.show_records(page, columns, Format.TABLE)

    def _rows(self, one: SecretDifference) -> Iterator[dict[str, Any]]:
        row = {"key": one.key, "kind": one.kind, "path": None, "old": None, "new": None}
        parts = self._parts(one) if self.dry_run else []
        for part in parts:
            # A text has its quotes, so that "1" and 1 differ.
            sides = {side: self._quoted(part[side]) for side in ("old", "new") if side in part}
            yield row | {"path": part["path"]} | sides
        if not parts:
            yield row

    def _quoted(self, shown: Any) -> str:
        return json.dumps(shown, ensure_ascii=False) if self.reveal else MASK

    def _record(self, one: SecretDifference) -> dict[str, Any]:
        return {"key": one.key, "kind": one.kind} | ({"parts": self._parts(one)} if self.dry_run else {})

    def _parts(self, one: SecretDifference) -> list[dict[str, Any]]:
        return [self._part(place) for place in _places(one)]

    def _part(self, place: places.Difference) -> dict[str, Any]:
        absent = {"added": "old", "removed": "new"}.get(place.kind)
        sides = {"old": place.old, "new": place.new}
        shown = {side: value if self.reveal else MASK for side, value in sides.items() if side != absent}
        return {"path": place.path, "kind": place.kind, **shown}


def _places(one: SecretDifference) -> list[places.Difference]:
    """Return where values differ: nowhere, where labels or an expiry alone do."""
    if one.kind == "added":
        return [places.Difference("", "added", None, one.new)]
    if one.kind == "deleted":
        return [places.Difference("", "removed", one.old, None)]
    return places.differences(one.old, one.new) if one.kind == "changed" else []


def _differing(found: Iterable[SecretDifference], counts: dict[str, int]) -> Iterator[SecretDifference]:
    """Give those that differ, and count all."""
    for one in found:
        counts[one.kind] += 1
        if one.kind != "unchanged":
            yield one


def _in_words(counts: Mapping[str, int]) -> str:
    words = {"labels": "with other labels"}
    counted = [f"{number} {words.get(kind, kind)}" for kind, number in counts.items() if number]
    return ", ".join(counted) or "there are no secrets"
