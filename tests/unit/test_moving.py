"""What is compared, copied, deleted and left behind, between places in memory."""

import json
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secretstore import (
    ConfigurationError,
    CopiedSecret,
    InvalidSecretKeyError,
    InvalidSecretValueError,
    ProviderDifference,
    ProviderError,
    compare_providers,
    copy_secrets,
)
from secretstore.domain.providers import Ability, ProvidedInfo, ProvidedSecret, SecretProvider
from secretstore.moving import trying
from secretstore.moving.digests import Digests
from secretstore.moving.mapping import KeyMap
from secretstore.providers.backing_off import BackingOff
from secretstore.providers.chain import ChainProvider, Link
from secretstore.providers.memory import MemoryProvider
from tests.support.moving import MARKER, Watched, busy, memory, once, raising, values
from tests.support.told_provider import ToldProvider

KEYS = st.text(alphabet="ab/é\uffff💥", min_size=1, max_size=4)
SECRETS = st.dictionaries(KEYS, st.sampled_from([b"null", b'""', b"1", b"1.0", b'{"a":1,"b":2}']), max_size=12)
PREFIXES = st.sampled_from(["", "a", "a/", "é"])
TEMPLATES = st.sampled_from(["{key}", "old/{key}", "{rest}", "a{rest}"])


def filled(secrets: dict[str, bytes], *lacks: Ability) -> Watched:
    """A target with these secrets, whose writes are counted from here on."""
    target = Watched(*lacks)
    for key, value in secrets.items():
        target.write(key, value)
    target.written.clear()
    return target


def kinds(source: MemoryProvider, target: MemoryProvider, map_to: str = "{key}") -> dict[str, str]:
    """How each key differs."""
    return {one.key: one.kind for one in compare_providers(source, target, map_to=map_to)}


@given(ours=SECRETS, theirs=SECRETS, prefix=PREFIXES, template=TEMPLATES, delete=st.booleans())
def test_after_a_copy_the_target_has_what_the_source_has(
    *, ours: dict[str, bytes], theirs: dict[str, bytes], prefix: str, template: str, delete: bool
) -> None:
    """Mapped secrets are there, others stay unless they are to go, and a second run writes nothing."""
    source, target = memory(ours), filled(theirs)
    keys = KeyMap.parse(template, prefix)
    wanted = {
        keys.target_key(key): value for key, value in ours.items() if key.startswith(prefix) and keys.target_key(key)
    }
    copy = partial(
        copy_secrets, source, target, prefix=prefix, map_to=template, delete_extra=delete, allow_empty_source=True
    )

    copy(verify=True)

    others = {key: value for key, value in theirs.items() if not (delete and key.startswith(keys.target_prefix))}
    assert values(target) == others | wanted
    target.written.clear()
    assert copy().outcomes["deleted"] == 0
    assert target.written == []


@given(SECRETS, SECRETS)
def test_a_comparison_tells_of_each_key_once(ours: dict[str, bytes], theirs: dict[str, bytes]) -> None:
    """Keys come in order, each with what it is, and nothing is written."""
    source, target = memory(ours), filled(theirs)
    expected = {
        key: "extra"
        if key not in ours
        else "added"
        if key not in theirs
        else "same"
        if ours[key] == theirs[key]
        else "changed"
        for key in sorted({*ours, *theirs})
    }

    assert list(kinds(source, target).items()) == list(expected.items())
    assert target.written == []


@pytest.mark.parametrize("template", ["", "old", "{key}x", "{key}{key}", "{key}/{rest}", "{other}", "old/{key", "{}"])
def test_a_map_that_could_mix_keys_up_is_refused(template: str) -> None:
    """Only text before the key is a map; nothing else is asked or written."""
    with pytest.raises(ConfigurationError, match="for example old/"):
        copy_secrets(memory({"a": b"1"}), Watched(), map_to=template)


def test_keys_are_put_elsewhere_and_back() -> None:
    """A map puts keys under a prefix, and {rest} takes them out again."""
    source = memory({"a": b"1", "a/b": b"2", "b": b"3"})
    middle, target = memory(name="memory:middle"), memory(name="memory:end")

    copy_secrets(source, middle, prefix="a", map_to="old/{key}")
    copy_secrets(middle, target, prefix="old/", map_to="{rest}")

    assert values(middle) == {"old/a": b"1", "old/a/b": b"2"}
    assert values(target) == {"a": b"1", "a/b": b"2"}


def test_a_place_is_not_copied_into_what_is_copied() -> None:
    """Within one place prefix and map lie apart, or it would not end."""
    place = memory({"a": b"1", "new/b": b"2"})

    with pytest.raises(ConfigurationError, match="lie apart"):
        copy_secrets(place, place, map_to="old/{key}")
    with pytest.raises(ConfigurationError, match="lie apart"):
        copy_secrets(place, place, prefix="new/", map_to="{rest}")
    copy_secrets(place, place, prefix="new/", map_to="old/{rest}")
    assert values(place) == {"a": b"1", "new/b": b"2", "old/b": b"2"}


@pytest.mark.parametrize(
    ("source", "target", "ends"),
    [
        ("vault://h/a", "vault://h/a/b", False),
        ("vault://h/a/", "vault://h", False),
        ("vault://h/a", "vault://h/ab", True),
        ("vault://h/a?namespace=t", "vault://h/a/b?namespace=t", False),
        ("vault://h/a?namespace=t", "vault://h/a/b?namespace=u", True),
        ("vault://h/a", "vault://h/a/b?namespace=t", True),
    ],
)
def test_a_folder_is_not_copied_into_itself(source: str, target: str, ends: bool) -> None:  # noqa: FBT001 - a case
    """A place that is a folder of the other one is refused; one whose name only begins alike is not."""
    places = memory(name=source), memory(name=target)

    if ends:
        assert copy_secrets(*places).is_complete
    else:
        with pytest.raises(ConfigurationError, match="lie apart"):
            copy_secrets(*places)


def test_places_in_memory_lie_apart_by_their_names() -> None:
    """Each is a place of its own, and says which where it has a name."""
    source, target = (MemoryProvider(name=f"memory:{name}") for name in ("source", "target"))
    source.write("a", b"1")

    assert copy_secrets(source, target, map_to="old/{key}").is_complete
    assert (source.name, MemoryProvider().name, values(target)) == ("memory:source", "memory:", {"old/a": b"1"})


def test_values_are_equal_whatever_their_spaces_and_order() -> None:
    """What a place has written otherwise is the same value; 1, 1.0 and true are not, nor a number and its text."""
    of = Digests().of

    assert of(b'{"a": [1, {"c": "\\u00e9", "b": 2.50}]}') == of('{"a":[1,{"b":2.50,"c":"é"}]}'.encode())
    texts = [b"1", b"1.0", b"true", b'"1"', b"[1]", b'["1"]', b"null", b'"null"', b"{}", b'{"":1}', b'"\\ud800"']
    assert len({of(text) for text in texts}) == len(texts)
    assert of(b"no JSON") != of(b"nor this")
    assert of(b"[" * 5000 + b"]" * 5000) != of(b"[" * 5001 + b"]" * 5001)
    assert Digests().of(b"1") != Digests().of(b"1")


def test_large_places_are_read_page_by_page() -> None:
    """More than a page of keys is compared and copied, each once, and never all are asked for at once."""
    source, target = memory({f"k{number:05}": b"1" for number in range(2345)}), Watched()
    source.write("k00000", b"2")

    report = copy_secrets(source, target, history=False)

    assert report.kinds == {"added": 2345}
    assert target.written == source.list_keys()


def test_labels_go_along_where_both_keep_them() -> None:
    """Labels alone are a difference, and are written; a target without labels is told of."""
    source, target, bare = memory(), filled({"k": b"1"}), Watched(Ability.LABELS)
    source.write("k", b"1", labels={"team": "web"})

    [found] = compare_providers(source, target)
    copy_secrets(source, target, verify=True)
    left = copy_secrets(source, bare, verify=True)

    assert (found.kind, found.differs, found.left_behind) == ("changed", ("labels",), ())
    assert kinds(source, target) == {"k": "same"}
    assert left.left_behind == {"labels": 1}
    assert kinds(source, bare) == {"k": "same"}


def test_labels_of_the_target_stay_where_the_source_has_none_to_tell() -> None:
    """A source without labels says nothing of them."""
    source, target = Watched(Ability.LABELS), Watched()
    source.write("k", b"2")
    target.write("k", b"1", labels={"team": "web"})

    copy_secrets(source, target)

    info = target.describe("k")
    assert info is not None
    assert (values(target), dict(info.labels)) == ({"k": b"2"}, {"team": "web"})


def test_what_expires_is_told() -> None:
    """A write has no expiry, so it stays behind, and that is said."""

    class Expiring(MemoryProvider):
        def read_many(self, keys: object) -> dict[str, ProvidedSecret]:
            info = replace(super().read_many(["k"])["k"].info, expires_at=datetime(2099, 1, 1, tzinfo=UTC))
            return {"k": ProvidedSecret(value_json=b"1", info=info)}

    source = Expiring()
    source.write("k", b"1")

    assert copy_secrets(source, Watched()).left_behind == {"expiry": 1}


def with_history() -> MemoryProvider:
    """A place with a secret of three versions, of which the second is destroyed."""
    source = memory({"k": b"1"})
    source.write("k", b"2")
    source.write("k", b"3", labels={"a": "b"})
    source.write("k", b"4")
    source.destroy_versions("k", [2])
    return source


def test_older_versions_go_first() -> None:
    """Those that still have a value are written in their order, with their labels, before the current one."""
    target = Watched()
    copy_secrets(with_history(), target, verify=True)

    found = [target.read("k", version=number) for number in (1, 2, 3)]
    assert [(one.value_json, dict(one.info.labels)) for one in found if one] == [
        (b"1", {}),
        (b"3", {"a": "b"}),
        (b"4", {"a": "b"}),
    ]


def test_older_versions_stay_where_they_would_not_fit() -> None:
    """Without history, over a secret that is there, or into a place without versions only the current value is written."""
    there, bare, asked = filled({"k": b"0"}), Watched(Ability.VERSIONS), Watched()

    copy_secrets(with_history(), there)
    left = copy_secrets(with_history(), bare)
    copy_secrets(with_history(), asked, history=False)

    assert (there.written, bare.written, asked.written) == (["k"], ["k"], ["k"])
    assert left.left_behind == {"history": 1}


def test_an_older_version_that_does_not_fit_is_left_behind() -> None:
    """The others and the current one are written all the same, and it is told."""

    class Narrow(Watched):
        def write(self, key: str, value_json: bytes, **options: Any) -> ProvidedInfo:
            if value_json == b"1":
                raise InvalidSecretValueError("1 is not taken here")
            return super().write(key, value_json, **options)

    target = Narrow()
    report = copy_secrets(with_history(), target, verify=True)

    assert report.is_complete
    assert report.left_behind == {"history": 1}
    assert (target.written, values(target)) == (["k", "k"], {"k": b"4"})


def test_only_what_lies_under_the_map_is_deleted() -> None:
    """Extra keys go where that is asked for, and others are not looked at."""
    source, target = memory({"a": b"1"}), filled({"old/a": b"1", "old/b": b"2", "older": b"3", "b": b"4"})

    assert kinds(source, target, map_to="old/{key}") == {"old/a": "same", "old/b": "extra"}
    report = copy_secrets(source, target, map_to="old/{key}", delete_extra=True)

    assert report.outcomes == {"kept": 1, "deleted": 1}
    assert values(target) == {"old/a": b"1", "older": b"3", "b": b"4"}


def test_an_empty_source_deletes_nothing_unless_that_is_meant() -> None:
    """A wrong prefix is not taken for the wish to delete everything."""
    source, target = memory({"b": b"1"}), filled({"a/1": b"1"})

    with pytest.raises(ConfigurationError, match="nothing to copy"):
        copy_secrets(source, target, prefix="a/", delete_extra=True)
    assert values(target) == {"a/1": b"1"}
    copy_secrets(source, target, prefix="a/", delete_extra=True, allow_empty_source=True)
    assert values(target) == {}


@pytest.mark.parametrize("wrap", [lambda chain: chain, BackingOff], ids=["chain", "wrapped"])
def test_what_is_hidden_by_an_optional_link_that_is_down_is_not_deleted(
    wrap: Callable[[SecretProvider], SecretProvider],
) -> None:
    """A chain that may leave secrets out is no reason to delete them, and one whose links must answer is."""
    above, below, target = ToldProvider(), memory({"b": b"1"}), filled({"a": b"1", "x": b"1"})
    above.write("a", b"1")
    links = [Link(above, name="above"), Link(below, name="below")]

    with pytest.raises(ConfigurationError, match="has an optional link"):
        copy_secrets(wrap(ChainProvider([replace(links[0], optional=True), links[1]])), target, delete_extra=True)
    assert values(target) == {"a": b"1", "x": b"1"}
    assert copy_secrets(wrap(ChainProvider(links)), target, delete_extra=True).is_complete
    assert values(target) == {"a": b"1", "b": b"1"}


def test_what_a_late_list_leaves_out_is_not_deleted() -> None:
    """A key that the source has is never extra enough to go, and one that the target has is compared."""

    class Late(MemoryProvider):
        def list_keys(self, *arguments: str, **options: object) -> list[str]:
            return ["a"]

    source, target = Late(), filled({"b": b"2"})
    for key, value in {"a": b"1", "b": b"2"}.items():
        source.write(key, value)

    report = copy_secrets(source, target, delete_extra=True)

    assert values(target) == {"a": b"1", "b": b"2"}
    assert report.outcomes == {"written": 1, "failed": 1}


@pytest.mark.parametrize("lacks", [Ability.WRITE, Ability.DELETE])
def test_what_the_target_cannot_do_is_told_before_anything(lacks: Ability) -> None:
    """A target that cannot write or delete is refused by name, and nothing was asked of it."""
    asked: list[str] = []
    target = Watched(lacks, before=lambda operation, _: asked.append(operation))

    with pytest.raises(ProviderError, match=f"memory:target cannot {lacks}"):
        copy_secrets(memory({"a": b"1"}), target, delete_extra=True)
    assert asked == []


@pytest.mark.parametrize("operation", ["write", "read_many"])
def test_a_key_that_fails_leaves_the_others_be(operation: str) -> None:
    """It is told with its reason, and all others are copied."""
    told: list[CopiedSecret] = []

    def before(asked: str, key: str) -> None:
        # Where a batch fails, each is read by itself.
        if key == "b" and asked in {operation, operation.removesuffix("_many")}:
            raise InvalidSecretValueError("b is too odd")

    report = copy_secrets(memory(dict.fromkeys("abc", b"1")), Watched(before=before), on_secret=told.append)

    assert not report.is_complete
    assert [(one.difference.key, one.outcome) for one in told] == [("a", "written"), ("b", "failed"), ("c", "written")]
    assert told[1].problem == "b is too odd"


def test_a_key_that_becomes_none_is_told_of() -> None:
    """A mapped key that is too long, or empty, is a problem of that key."""
    source, target = memory({"a": b"1", "a" + "b" * 511: b"2"}), Watched()
    longer = {one.source_key[:2]: one for one in compare_providers(source, target, map_to="x{key}")}
    emptied = list(compare_providers(source, target, prefix="a", map_to="{rest}"))

    assert (longer["a"].kind, longer["ab"].kind) == ("added", "unreadable")
    assert "at most 512" in (longer["ab"].problem or "")
    assert "this one is empty" in (emptied[0].problem or "")
    with pytest.raises(InvalidSecretKeyError):
        copy_secrets(source, target, map_to="x" * 600 + "{key}")


def test_a_value_that_is_listed_and_not_there_is_no_reason_to_delete() -> None:
    """Where the source has a key without a value, the target's stays, and it is told."""
    source, target = Watched(), filled({"a": b"1"})
    source.write("a", b"1")
    source.before = once("read_many", lambda: source.delete("a"))

    report = copy_secrets(source, target, delete_extra=True)

    assert (report.kinds, report.outcomes) == ({"unreadable": 1}, {"failed": 1})
    assert values(target) == {"a": b"1"}


@pytest.mark.parametrize("there", [{}, {"k": b"0"}], ids=["new", "changed"])
def test_what_somebody_else_writes_meanwhile_stays(there: dict[str, bytes]) -> None:
    """The write expects what was compared, and the conflict is told."""
    target = filled(there)
    target.before = once("write", lambda: MemoryProvider.write(target, "k", b'"theirs"'))
    told: list[CopiedSecret] = []

    copy_secrets(memory({"k": b"1"}), target, on_secret=told.append)

    assert values(target) == {"k": b'"theirs"'}
    assert (told[0].outcome, "expected" in (told[0].problem or "")) == ("failed", True)


def test_a_write_whose_answer_was_lost_is_known_again() -> None:
    """It is tried again, finds its own version in its way, and is no conflict."""
    target = Watched(before=once("written", lambda: raising(busy())))

    report = copy_secrets(memory({"k": b"1"}), target, wait=lambda _: None)

    assert report.outcomes == {"written": 1}
    assert [one.version for one in target.list_versions("k")] == [1]


@pytest.mark.parametrize("operation", ["list_keys", "read_many", "write"])
def test_a_place_that_asks_to_wait_is_asked_again(operation: str) -> None:
    """It is waited for longer and longer, and everything is copied once."""
    waited: list[float] = []
    target = Watched(before=once(operation, lambda: raising(busy()), times=4))

    report = copy_secrets(memory({"k": b"1"}), target, wait=waited.append)

    assert (report.outcomes, len(waited)) == ({"written": 1}, 4)
    assert waited[3] > waited[0] > 0


def test_patience_ends() -> None:
    """A place that asks to wait for too long ends the copy with its own error, and what was copied stays."""
    target = Watched()
    target.before = lambda operation, key: raising(busy()) if (operation, key) == ("write", "b") else None
    with pytest.raises(ProviderError, match="it asks to wait") as caught:
        copy_secrets(memory(dict.fromkeys("abc", b"1")), target, patience_seconds=0, wait=lambda _: None)

    assert caught.value.is_temporary
    assert target.written == ["a"]


def test_a_place_that_never_answered_is_given_up_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong address does not take the patience that a place has earned by an answer."""
    monkeypatch.setattr(trying, "_UNTIL_FIRST_ANSWER_SECONDS", 0)

    with pytest.raises(ProviderError, match="asks to wait"):
        copy_secrets(memory(), Watched(before=once("list_keys", lambda: raising(busy()))), wait=lambda _: None)
    target = Watched(before=once("write", lambda: raising(busy())))
    assert copy_secrets(memory({"k": b"1"}), target, wait=lambda _: None).is_complete


def test_verifying_finds_a_place_that_changes_values() -> None:
    """What reads back otherwise is told, and without verifying it is not."""

    class Shortening(Watched):
        def write(self, key: str, value_json: bytes, **options: Any) -> ProvidedInfo:
            return super().write(key, b'"short"', **options)

    source = memory({"k": b'"long text"'})
    assert copy_secrets(source, Shortening()).is_complete
    told: list[CopiedSecret] = []
    assert not copy_secrets(source, Shortening(), verify=True, on_secret=told.append).is_complete
    assert "reads back otherwise" in (told[0].problem or "")


def test_no_value_is_shown() -> None:
    """Records, reports and errors hold keys and versions, and nothing of a value, also where a write fails."""
    told: list[CopiedSecret | ProviderDifference] = []
    value = json.dumps(MARKER).encode()
    source, target = memory({"a": value, "b": value}), filled({"a": b"1"})
    target.before = lambda operation, key: raising(busy()) if (operation, key) == ("write", "b") else None

    told += compare_providers(source, target)
    with pytest.raises(ProviderError) as caught:
        copy_secrets(source, target, patience_seconds=0, on_secret=told.append)

    shown = repr(told) + "".join(traceback.format_exception(caught.value))
    assert MARKER not in shown
