"""JSON merge patch as RFC 7396 has it."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secretstore.service.merge_patch import merge_patch

DEPTH = 10_000

no_deadline = settings(deadline=None)  # other tests share the machine

# RFC 7396, appendix A: original, patch, result.
APPENDIX_A = [
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('["a","b"]', '["c","d"]', '["c","d"]'),
    ('{"a":"b"}', '["c"]', '["c"]'),
    ('{"a":"foo"}', "null", "null"),
    ('{"a":"foo"}', '"bar"', '"bar"'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
]

names = st.sampled_from("abc")  # few, so that objects and patches meet
scalars = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, "", "x"])
json_values = st.recursive(
    scalars, lambda parts: st.lists(parts, max_size=3) | st.dictionaries(names, parts, max_size=3), max_leaves=12
)
json_objects = st.dictionaries(names, json_values, max_size=3)


@pytest.mark.parametrize(("original", "patch", "result"), APPENDIX_A)
def test_each_example_of_the_appendix(original: str, patch: str, result: str) -> None:
    """Every row of the RFC's table comes out as it says there, with its members in the order there."""
    assert json.dumps(merge_patch(json.loads(original), json.loads(patch)), separators=(",", ":")) == result


def test_the_example_of_section_3() -> None:
    """The document that the RFC patches in its text comes out as it does there."""
    document = {
        "title": "Goodbye!",
        "author": {"givenName": "John", "familyName": "Doe"},
        "tags": ["example", "sample"],
        "content": "This will be unchanged",
    }
    patch = {
        "title": "Hello!",
        "phoneNumber": "+01-123-456-7890",
        "author": {"familyName": None},
        "tags": ["example"],
    }

    assert merge_patch(document, patch) == {
        "title": "Hello!",
        "author": {"givenName": "John"},
        "tags": ["example"],
        "content": "This will be unchanged",
        "phoneNumber": "+01-123-456-7890",
    }


def test_a_null_in_a_list_stays() -> None:
    """A list of a patch is taken as it is, with every null in it."""
    assert merge_patch({"a": 1}, {"a": [None, {"b": None}]}) == {"a": [None, {"b": None}]}


@no_deadline
@given(target=json_values, patch=json_values)
def test_the_result_is_that_of_the_rfc(target: Any, patch: Any) -> None:
    """The RFC's own algorithm, written down as it stands there, comes to the same."""
    assert written(merge_patch(target, patch)) == written(as_in_section_2(copy.deepcopy(target), patch))


@no_deadline
@given(target=json_values, patch=json_values)
def test_the_arguments_are_not_changed(target: Any, patch: Any) -> None:
    """Whoever patches still holds the old value and the patch."""
    before = written(target), written(patch)

    merge_patch(target, patch)

    assert (written(target), written(patch)) == before


@no_deadline
@given(target=json_objects)
def test_an_empty_patch_changes_nothing_of_an_object(target: Any) -> None:
    """Nothing asked, nothing done; nulls in the object stay."""
    assert written(merge_patch(target, {})) == written(target)


@no_deadline
@given(target=json_values, patch=json_values)
def test_patching_twice_is_the_same_as_once(target: Any, patch: Any) -> None:
    """A patch can be sent again after a lost answer."""
    once = merge_patch(target, patch)

    assert written(merge_patch(once, patch)) == written(once)


@no_deadline
@given(target=json_values, patch=json_objects)
def test_no_null_of_the_patch_gets_into_an_object(target: Any, patch: Any) -> None:
    """Where a patch says null, the result has no member, however new the object around it."""
    result = merge_patch(target, patch)

    for path in places_of_null(patch):
        assert path not in set(places(result))


def test_no_depth_is_too_deep() -> None:
    """Objects inside objects, thousands deep, are merged without recursion."""
    target, patch = nested({"old": 1, "gone": 2}), nested({"new": 3, "gone": None})

    innermost = merge_patch(target, patch)
    for _ in range(DEPTH):
        innermost = innermost["a"]

    assert innermost == {"old": 1, "new": 3}


def test_a_deep_patch_of_a_shallow_value() -> None:
    """What a patch brings in that was not there is merged without recursion too."""
    innermost = merge_patch("shallow", nested({"new": 1, "gone": None}))
    for _ in range(DEPTH):
        innermost = innermost["a"]

    assert innermost == {"new": 1}


def written(value: Any) -> str:
    """JSON text, which tells 1 from true and from 1.0."""
    return json.dumps(value)


def nested(value: Any) -> Any:
    """A value at the bottom of many objects."""
    for _ in range(DEPTH):
        value = {"a": value}
    return value


def as_in_section_2(target: Any, patch: Any) -> Any:
    """`MergePatch` of RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = as_in_section_2(target.get(name), value)
    return target


def places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every member, by its path through objects alone."""
    for name, part in value.items() if isinstance(value, dict) else ():
        yield (*path, name)
        yield from places(part, (*path, name))


def places_of_null(value: Any) -> Iterator[tuple[str, ...]]:
    """Every member that is null, by its path through objects alone."""
    for path in places(value):
        part = value
        for name in path:
            part = part[name]
        if part is None:
            yield path
