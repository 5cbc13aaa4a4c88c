"""What differs between two values, place by place."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secretstore.service.differences import Difference, differences

CANARY = "hunter2"
DEPTH = 10_000

no_deadline = settings(deadline=None)  # other tests share the machine

names = st.sampled_from(["a", "b", "", "~", "/", "~1", "0", "é"])  # few, so that members meet
scalars = st.sampled_from([None, True, False, 0, 1, 0.0, -0.0, 1.0, 1.5, 2**70, "", "1", "true", "é"])
json_values = st.recursive(
    scalars, lambda parts: st.lists(parts, max_size=4) | st.dictionaries(names, parts, max_size=4), max_leaves=12
)


def test_each_kind_of_difference_in_the_order_of_the_document() -> None:
    """Members come in the order of the old object, whatever their names, and the added ones after them."""
    old = {"z": 1, "gone": [1], "same": {"x": None}, "list": ["p", "q"], "deep": {"b": 1, "a": 2}}
    new = {"new": 0, "list": ["p", "r", "s", "t"], "same": {"x": None}, "deep": {"c": 3, "a": 4, "b": 5}, "z": 2}

    assert differences(old, new) == [
        Difference("/z", "changed", 1, 2),
        Difference("/gone", "removed", [1], None),
        Difference("/list/1", "changed", "q", "r"),
        Difference("/list/2", "added", None, "s"),
        Difference("/list/3", "added", None, "t"),
        Difference("/deep/b", "changed", 1, 5),
        Difference("/deep/a", "changed", 2, 4),
        Difference("/deep/c", "added", None, 3),
        Difference("/new", "added", None, 0),
    ]


def test_a_shorter_list_has_removed_ends() -> None:
    """Lists are compared index by index, and what is over at the end is removed."""
    assert differences([1, 2, 3], [2]) == [
        Difference("/0", "changed", 1, 2),
        Difference("/1", "removed", 2, None),
        Difference("/2", "removed", 3, None),
    ]


def test_the_whole_value_has_the_empty_path() -> None:
    """A JSON pointer to the whole document is the empty text."""
    assert differences("old", "new") == [Difference("", "changed", "old", "new")]


def test_a_path_is_a_json_pointer() -> None:
    """A tilde and a slash in a name are escaped, and an empty name is a name."""
    assert [found.path for found in differences({"a/b": {"~1": {"": 0}}}, {"a/b": {"~1": {"": 1}}})] == ["/a~1b/~01/"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (1, 1.0),
        (1, True),
        (1.0, True),
        (0, False),
        (0, 0.0),
        (0.0, False),
        (0.0, -0.0),
        (1, "1"),
        (None, False),
        (None, ""),
        (None, {}),
        ([], {}),
        ([1], {"0": 1}),
        ({"a": 1}, "a"),
    ],
)
def test_a_changed_type_is_one_change(old: Any, new: Any) -> None:
    """What JSON writes differently is a change of the whole part, also where Python calls it equal."""
    for before, after in [(old, new), (new, old)]:
        [found] = differences({"in": [before]}, {"in": [after]})

        assert (found.path, found.kind) == ("/in/0", "changed")
        assert written([found.old, found.new]) == written([before, after])


@pytest.mark.parametrize("kind", ["added", "removed"])
def test_an_added_null_is_a_difference(kind: str) -> None:
    """A member that is null is there; a member that is not there is not null."""
    old, new = ({}, {"a": None}) if kind == "added" else ({"a": None}, {})

    assert [(found.path, found.kind) for found in differences(old, new)] == [("/a", kind)]


def test_a_part_is_added_or_removed_whole() -> None:
    """Nothing of an added object is listed besides it."""
    assert differences({}, {"a": {"b": [1]}}) == [Difference("/a", "added", None, {"b": [1]})]


def test_the_repr_shows_no_value() -> None:
    """A difference can be logged."""
    [found] = differences({"password": CANARY}, {"password": [CANARY]})

    assert repr(found) == "Difference(path='/password', kind='changed')"


@no_deadline
@given(old=json_values, new=json_values)
def test_there_are_differences_exactly_where_the_texts_differ(old: Any, new: Any) -> None:
    """Two values differ if and only if they are written differently; the order of members is no difference."""
    assert (differences(old, new) == []) == (written(old) == written(new))


@no_deadline
@given(value=json_values)
def test_a_value_does_not_differ_from_its_copy(value: Any) -> None:
    """No place differs from itself, also where it comes from another text."""
    assert differences(value, json.loads(written(value))) == []


@no_deadline
@given(old=json_values, new=json_values)
def test_applying_the_differences_gives_the_new_value(old: Any, new: Any) -> None:
    """The differences are all that there are, and each says what was there and what is there now."""
    found = differences(old, new)

    assert written(applied(found, old)) == written(new)
    assert written(applied(turned_round(found), new)) == written(old)


@no_deadline
@given(old=json_values, new=json_values)
def test_no_place_is_named_twice(old: Any, new: Any) -> None:
    """Each path is there once, and no path lies inside another one."""
    paths = [found.path for found in differences(old, new)]

    assert len(set(paths)) == len(paths)
    assert not [path for path in paths for other in paths if path.startswith(f"{other}/")]


def test_no_depth_is_too_deep() -> None:
    """Values thousands of levels deep are compared without recursion."""
    [found] = differences(nested(1), nested(2))

    assert (found.path, found.old, found.new) == ("/a/0" * DEPTH, 1, 2)
    assert differences(nested(1), nested(1)) == []


def written(value: Any) -> str:
    """JSON text, which tells 1 from true and from 1.0."""
    return json.dumps(value, sort_keys=True)


def nested(value: Any) -> Any:
    """A value at the bottom of many objects and lists."""
    for _ in range(DEPTH):
        value = {"a": [value]}
    return value


def turned_round(found: list[Difference]) -> list[Difference]:
    """The differences seen from the new value."""
    opposite: dict[Any, Any] = {"added": "removed", "removed": "added", "changed": "changed"}
    return [Difference(one.path, opposite[one.kind], one.new, one.old) for one in found]


def applied(found: list[Difference], old: Any) -> Any:
    """The old value, changed as the differences say."""
    document = {"": copy.deepcopy(old)}
    removed = [one for one in found if one.kind == "removed"]
    for one in removed[::-1]:  # of a list the last ones first
        apply(document, one)
    for one in found:
        if one.kind != "removed":
            apply(document, one)
    return document[""]


def apply(document: dict[str, Any], one: Difference) -> None:
    """Change one place."""
    *path, last = [step.replace("~1", "/").replace("~0", "~") for step in one.path.split("/")]
    part: Any = document
    for step in path:
        part = part[int(step) if isinstance(part, list) else step]
    place: Any = int(last) if isinstance(part, list) else last
    if one.kind == "added":
        add(part, place, one.new)
        return
    assert written(part[place]) == written(one.old)
    if one.kind == "removed":
        del part[place]
    else:
        part[place] = one.new


def add(part: Any, place: Any, value: Any) -> None:
    """Put a part where none is: at the end of a list, or under a new name."""
    if isinstance(part, list):
        assert place == len(part)
        part.append(value)
    else:
        assert place not in part
        part[place] = value
