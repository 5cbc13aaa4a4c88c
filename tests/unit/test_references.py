"""References inside values: what takes their place, what is asked for, and what is refused."""

import copy
import json
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secretstore.domain.names import Key, parse_key
from secretstore.errors import InvalidSecretValueError
from secretstore.service import references
from secretstore.service.references import (
    MAX_DEPTH,
    MAX_NESTING,
    MAX_REFERENCES,
    MAX_SIZE,
    Reference,
    parse_reference,
    resolve,
)
from secretstore.service.reveal import MAX_DEPTH as DEEPEST_STORABLE
from secretstore.service.typed import MAX_VALUE_BYTES
from tests.support.values import stored

Values = dict[str, Any]

CANARY = "hunter2"

no_deadline = settings(deadline=None)  # other tests share the machine

names = st.text(st.sampled_from("ab~/%#01 é"), max_size=4)
keys = st.text(st.sampled_from("ab~/%#.é"), min_size=1, max_size=6)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
json_values = st.recursive(
    scalars, lambda parts: st.lists(parts, max_size=4) | st.dictionaries(names, parts, max_size=4), max_leaves=12
)


class Shelf:
    """Secrets that can be loaded; it keeps what was asked for."""

    def __init__(self, secrets: Values) -> None:
        self.secrets = secrets
        self.asked: list[list[str]] = []

    def load(self, wanted: Sequence[Key]) -> Mapping[Key, Any]:
        """Return those that are there."""
        self.asked.append(list(wanted))
        return {key: self.secrets[key] for key in wanted if key in self.secrets}


def ref(text: str) -> Values:
    """A reference."""
    return {"$ref": text}


def resolved(values: Values, others: Values | None = None) -> Values:
    """Values with what their references point at, in them and in others that are loaded."""
    found = resolve({parse_key(key): value for key, value in values.items()}, Shelf(others or {}).load)
    return {str(key): value for key, value in found.items()}


def refusal(values: Values, others: Values | None = None) -> str:
    """Why references cannot be replaced; the error keeps nothing of what led to it, and shows no value."""
    with pytest.raises(InvalidSecretValueError) as caught:
        resolved(values, others)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert CANARY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    return str(caught.value)


# What takes the place of a reference


def test_a_reference_is_replaced_by_the_value_of_its_key() -> None:
    """Without a pointer it is the whole value, whatever that is."""
    others = {"other.key": {"a": [1, None]}, "null": None}

    assert resolved({"app": ref("other.key"), "b": ref("other.key#"), "c": ref("null")}, others) == {
        "app": {"a": [1, None]},
        "b": {"a": [1, None]},
        "c": None,
    }


def test_a_reference_with_a_pointer_is_replaced_by_a_part() -> None:
    """After the # stands the way to a part of the value."""
    assert resolved({"app": ref("db#/hosts/1/name")}, {"db": {"hosts": [{}, {"name": "b"}]}}) == {"app": "b"}


def test_nested_references_are_replaced_where_they_stand() -> None:
    """References inside objects and lists are replaced, and what stands around them stays."""
    app = {"db": {"password": ref("db#/password"), "port": 5432}, "list": [0, ref("db"), [ref("db#/password")]]}
    db = {"password": "p"}

    assert resolved({"app": app}, {"db": db}) == {
        "app": {"db": {"password": "p", "port": 5432}, "list": [0, db, ["p"]]}
    }


def test_references_in_what_references_point_at_are_replaced() -> None:
    """What is put in is put in whole: with what its own references point at."""
    others = {"db": {"url": [ref("db.host"), ref("db.login#/user")]}, "db.host": "h", "db.login": {"user": ref("me")}}

    assert resolved({"app": {"db": ref("db")}}, others | {"me": "u"}) == {"app": {"db": {"url": ["h", "u"]}}}


def test_an_empty_key_is_the_secret_that_holds_the_reference() -> None:
    """Also in a secret that was only loaded, where it is that one, and not the one that led to it."""
    app = {"name": "app", "own": ref("#/name"), "theirs": ref("db#/own")}

    assert resolved({"app": app}, {"db": {"name": "db", "own": ref("#/name")}}) == {
        "app": {"name": "app", "own": "app", "theirs": "db"}
    }


def test_what_is_put_in_is_not_read_again() -> None:
    """A text that comes into the place of a look-alike's text makes no reference of it."""
    assert resolved({"app": {"$ref": ref("db")}, "db": "app"}) == {"app": {"$ref": "app"}, "db": "app"}


@no_deadline
@given(values=st.dictionaries(keys, json_values, max_size=3))
def test_values_without_references_come_back_equal(values: Values) -> None:
    """Nothing else is changed, and nothing is loaded."""
    shelf = Shelf({})
    found = resolve({Key(key): value for key, value in values.items()}, shelf.load)

    assert json.dumps(found) == json.dumps(values)
    assert shelf.asked == []


@pytest.mark.parametrize(
    "look_alike",
    [
        {"$ref": 1},
        {"$ref": None},
        {"$ref": ["a"]},
        {"$ref": {"a": "b"}},
        {"$ref": "a", "x": 1},
        {"$REF": "a"},
        {"ref": "a"},
        {"$ref": {"$ref": "a", "x": 1}},
        ["$ref", "a"],
        "$ref",
    ],
)
def test_a_look_alike_stays_as_it_is(look_alike: Any) -> None:
    """Only an object with the one member `$ref` that is a text is a reference."""
    assert resolved({"app": look_alike, "deep": [look_alike]}) == {"app": look_alike, "deep": [look_alike]}


@no_deadline
@given(data=st.data())
def test_references_among_many_secrets(data: st.DataObject) -> None:
    """Whatever refers to whatever comes after it, and whether that was given or is loaded, the result is the same."""
    raw: Values = {}
    expected: Values = {}
    for key in "fedcba":
        later = [ref(other) for other in raw]
        raw[key] = data.draw(st.recursive(scalars | st.sampled_from([None, *later]), st.lists, max_leaves=5))
        expected[key] = substituted(raw[key], expected)
    given_ones = data.draw(st.sets(st.sampled_from("abcdef")))

    assert resolved({key: raw[key] for key in given_ones}, raw) == {key: expected[key] for key in given_ones}


def substituted(value: Any, by: Values) -> Any:
    """A value of lists and references to whole secrets, with those in their place."""
    if isinstance(value, list):
        return [substituted(part, by) for part in value]
    return by[value["$ref"]] if isinstance(value, dict) else value


# How a reference is written

RFC_6901 = {
    "foo": ["bar", "baz"],
    "": 0,
    "a/b": 1,
    "c%d": 2,
    "e^f": 3,
    "g|h": 4,
    "i\\j": 5,
    'k"l': 6,
    " ": 7,
    "m~n": 8,
}


@pytest.mark.parametrize(
    ("fragment", "part"),
    [
        ("#", RFC_6901),
        ("#/foo", ["bar", "baz"]),
        ("#/foo/0", "bar"),
        ("#/", 0),
        ("#/a~1b", 1),
        ("#/c%25d", 2),
        ("#/e%5Ef", 3),
        ("#/g%7Ch", 4),
        ("#/i%5Cj", 5),
        ("#/k%22l", 6),
        ("#/%20", 7),
        ("#/m~0n", 8),
    ],
)
def test_each_example_of_section_6(fragment: str, part: Any) -> None:
    """The URI fragments of RFC 6901 point at what it says."""
    assert resolved({"app": ref(f"doc{fragment}")}, {"doc": RFC_6901}) == {"app": part}


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("other.key", Reference(Key("other.key"))),
        ("a/b:c d", Reference(Key("a/b:c d"))),
        ("a%23b%25c", Reference(Key("a#b%c"))),
        ("a~1b", Reference(Key("a~1b"))),
        ("k%C3%A9y#/%C3%a9/é", Reference(Key("kéy"), ("é", "é"))),
        ("", Reference(Key("holder"))),
        ("#", Reference(Key("holder"))),
        ("#/a#b", Reference(Key("holder"), ("a#b",))),
        ("#%2Fa%2fb", Reference(Key("holder"), ("a", "b"))),
        ("#/a//", Reference(Key("holder"), ("a", "", ""))),
        ("#/~01/%7E1", Reference(Key("holder"), ("~1", "/"))),
        ("#/a+b/$ref", Reference(Key("holder"), ("a+b", "$ref"))),
    ],
)
def test_a_reference_is_parsed(text: str, reference: Reference) -> None:
    """The text is split at the first #, both parts are percent-decoded, and then a pointer's steps are unescaped."""
    assert parse_reference(text, holder=Key("holder"), name="the value") == reference


@no_deadline
@given(key=keys, pointer=st.lists(names | st.text(), max_size=4))
def test_a_reference_as_errors_show_it_is_the_same_reference(key: str, pointer: list[str]) -> None:
    """Every key and every place can be written, and what an error shows can be taken as it is."""
    reference = Reference(Key(key), tuple(pointer))

    assert parse_reference(str(reference), holder=Key("holder"), name="the value") == reference


@pytest.mark.parametrize(
    "text",
    [
        " padded",
        "padded #/a",
        "line\nbreak",
        "k" * 513,
        "100%",
        "a%2",
        "a%zz",
        "a%2#5",
        "a%0Ab",
        "a%ff",
        "a%C3é",
        "a\ud800",
        "a%ED%A0%80",
        "a#b",
        "a#b/c",
        "a#%20/c",
        "a#/100%",
        "a#/%zz",
        "a#/%ff",
        "a#/~",
        "a#/~2",
        "a#/b~/c",
        "a#/%7E",
        "a#/\udfff",
    ],
)
def test_a_malformed_reference_is_refused_without_its_text(text: str) -> None:
    """A bad key or pointer may be a secret in the wrong place, so only the path to it is named."""
    text = f"{text}{CANARY}" if text.count("%") + text.count("~") == 0 else f"{CANARY}{text}"
    problem = refusal({"app": {"a": ref("db#/x")}}, {"db": {"x": [ref(text)]}})

    assert problem.startswith("'app' → 'db#/x' holds a malformed reference; write other.key#/json/pointer")


def test_a_malformed_reference_that_is_not_reached_does_no_harm() -> None:
    """Only what takes the place of a reference is looked through, not all of the secret that it is in."""
    shelf = Shelf({"db": {"x": 1, "y": ref("%"), "z": ref("never")}})

    assert resolve({Key("app"): ref("db#/x")}, shelf.load) == {"app": 1}
    assert shelf.asked == [["db"]]


@pytest.mark.parametrize(
    "step", ["2", "-", "-1", "+1", "00", "01", "1.0", "1e0", "%201", "1%20", "", "٣", "1_0", "length", "9" * 5000]
)
def test_what_is_no_index_of_a_list_leads_nowhere(step: str) -> None:
    """An index has digits only and no leading zeros, and a list has nothing after its end to point at."""
    assert "leads nowhere: secret 'db' has no '/list/" in refusal(
        {"app": ref(f"db#/list/{step}")}, {"db": {"list": [0, 1]}}
    )


@pytest.mark.parametrize("name", ["-", "01", "1"])
def test_in_an_object_a_number_is_a_name(name: str) -> None:
    """What is no index may well be a name."""
    assert resolved({"app": ref(f"db#/{name}")}, {"db": {name: True}}) == {"app": True}


# What is asked for


def test_the_loader_is_asked_once_a_level_with_sorted_distinct_keys() -> None:
    """All references of a level are one question, wherever they stand."""
    shelf = Shelf({"b": [ref("e"), ref("d#/x")], "c": {"y": ref("e")}, "d": {"x": ref("f")}, "e": 1, "f": 2})
    app = [ref("c"), {"x": ref("b")}, ref("c#/y"), ref("b#/1")]

    assert resolve({Key("app"): app, Key("web"): ref("b")}, shelf.load) == {
        "app": [{"y": 1}, {"x": [1, 2]}, 1, 2],
        "web": [1, 2],
    }
    assert shelf.asked == [["b", "c"], ["d", "e"], ["f"]]


def test_many_keys_are_asked_for_in_order() -> None:
    """Keys are sorted by their text, so that a statement is the same for the same references."""
    shelf = Shelf({f"k{number}": number for number in range(100)})

    resolve({Key("app"): [ref(f"k{number % 100}") for number in range(200)]}, shelf.load)

    assert shelf.asked == [sorted(shelf.secrets)]


def test_a_known_key_is_not_asked_for_again() -> None:
    """What was given or loaded is there, also where the loader would say something else."""
    shelf = Shelf({"app": "other", "db": [ref("app#/name"), ref("db.host")], "db.host": ref("web"), "web": "other"})
    app = {"name": "a", "db": ref("db"), "again": ref("db#/1")}

    assert resolve({Key("app"): app, Key("web"): "w"}, shelf.load) == {
        "app": {"name": "a", "db": ["a", "w"], "again": "w"},
        "web": "w",
    }
    assert shelf.asked == [["db"], ["db.host"]]


def test_nothing_is_loaded_where_all_is_known() -> None:
    """References among the given values need no loader."""
    shelf = Shelf({})

    assert resolve({Key("a"): ref("b"), Key("b"): ref("c#/0"), Key("c"): [ref("#/1"), 1]}, shelf.load) == {
        "a": 1,
        "b": 1,
        "c": [1, 1],
    }
    assert shelf.asked == []


def test_what_the_loader_brings_unasked_is_not_taken() -> None:
    """A loader with more in its hands does not change the given values."""
    found = resolve({Key("app"): [ref("db"), ref("web")], Key("web"): 1}, lambda _: {Key("db"): 2, Key("web"): 3})

    assert found == {"app": [2, 1], "web": 1}


# What is refused


def test_a_cycle_names_its_path() -> None:
    """The path begins with the secret that was asked for."""
    app = {"db": ref("db.main#/password")}

    assert refusal({"app": app}, {"db.main": {"password": ref("app"), "x": CANARY}}) == (
        "'app' → 'db.main#/password' → 'app' is a cycle of references"
    )


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (ref("app"), "'app' → 'app' is a cycle"),
        (ref(""), "'app' → 'app' is a cycle"),
        ([CANARY, ref("#")], "'app' → 'app' is a cycle"),
        ({"a": {"b": ref("#/a")}}, "'app' → 'app#/a' → 'app#/a' is a cycle"),
        ({"a": ref("#/b"), "b": ref("#/a")}, "'app' → 'app#/b' → 'app#/a' → 'app#/b' is a cycle"),
        ({"a": ref("#/a")}, "'app' → 'app#/a' → 'app#/a' is a cycle"),
    ],
)
def test_a_secret_that_refers_to_itself_whole_is_a_cycle(value: Any, problem: str) -> None:
    """A part may refer to another part, but not to one that it is in."""
    assert problem in refusal({"app": value})


@pytest.mark.parametrize("length", [2, 3, MAX_DEPTH])
@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_mutual_cycle(length: int, is_loaded: bool) -> None:  # noqa: FBT001 - of a table
    """Secrets that refer to one another in a circle have no value, whether they were given or are loaded."""
    circle = {f"k{number}": {"x": CANARY, "next": ref(f"k{(number + 1) % length}")} for number in range(length)}
    path = " → ".join(f"'k{number % length}'" for number in range(length + 1))

    assert refusal({"k0": circle["k0"]} if is_loaded else circle, circle) == f"{path} is a cycle of references"


def test_the_same_reference_twice_is_no_cycle() -> None:
    """Two ways to one place are two copies of it."""
    assert resolved({"app": [ref("a"), ref("b"), ref("a")]}, {"a": ref("c"), "b": ref("c"), "c": 1}) == {
        "app": [1, 1, 1]
    }


def test_the_longest_chain() -> None:
    """Sixteen references one after the other are followed, a level at a time."""
    shelf = Shelf(chain(16))

    assert MAX_DEPTH == 16
    assert resolve({Key("k00"): ref("k01")}, shelf.load) == {"k00": CANARY}
    assert shelf.asked == [[f"k{number:02}"] for number in range(1, 17)]


def test_a_longer_chain_is_refused() -> None:
    """Seventeen are too many, and the last one is not even asked for."""
    shelf = Shelf(chain(17))
    path = " → ".join(f"'k{number:02}'" for number in range(18))

    assert refusal({"k00": ref("k01")}, chain(17)) == f"{path} is a chain of more than 16 references"
    with pytest.raises(InvalidSecretValueError):
        resolve({Key("k00"): ref("k01")}, shelf.load)
    assert ["k17"] not in shelf.asked


def chain(length: int) -> Values:
    """Secrets each of which is a reference to the next one."""
    return {f"k{number:02}": ref(f"k{number + 1:02}") for number in range(length)} | {f"k{length:02}": CANARY}


def test_no_more_than_ten_thousand_references_in_all() -> None:
    """All references of all values together are counted, those in what they point at too."""
    assert MAX_REFERENCES == 10_000
    assert resolved({"a": [ref("x")] * 4999, "b": ref("y")}, {"x": 1, "y": [ref("x")] * 5000})["b"] == [1] * 5000
    problem = refusal({"a": [ref("x")] * 5000, "b": ref("y")}, {"x": CANARY, "y": [ref("x")] * 5000})
    assert problem == "'b' → 'y' → 'x' is one of more than 10000 references in all"


def test_a_billion_laughs() -> None:
    """Ten references to ten references to ten …: what comes out is counted, not what was written."""
    laughs = {f"l{level}": [ref(f"l{level + 1}")] * 10 for level in range(9)} | {"l9": CANARY}

    assert "is one of more than 10000 references in all" in refusal({"l0": laughs["l0"]}, laughs)
    assert "is one of more than 10000 references in all" in refusal(laughs)


def test_few_references_to_a_large_value() -> None:
    """What references put in is bounded in size too: thousands of them to one large text would fill the memory."""
    large = CANARY.ljust(MAX_VALUE_BYTES - 100)

    assert MAX_SIZE == 16 * MAX_VALUE_BYTES
    assert len(resolved({"app": [ref("x")] * 16}, {"x": large})["app"]) == 16
    problem = refusal({"app": [ref("x")] * 17}, {"x": large})
    assert problem == "'app' → 'x' is one of the references that put in more than 16777216 bytes in all"


@pytest.mark.parametrize("part", [[[]] * 9, [0] * 9, {"n" * 100: 0}, "t" * 100, ref("y" + "%20" * 30 + "y")])
def test_every_part_and_character_counts(part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items, names, texts and the texts of references all cost time or memory, each time they are put in."""
    monkeypatch.setattr(references, "MAX_SIZE", 1000)
    others = {"x": part, "y" + " " * 30 + "y": 0}

    assert resolved({"app": [ref("x")] * 5}, others)
    assert "put in more than 1000 bytes" in refusal({"app": [ref("x")] * 15}, others)


def test_what_no_reference_puts_in_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of any size come back, as long as it is their own."""
    monkeypatch.setattr(references, "MAX_SIZE", 100)

    own = ["t" * 1000, {"n" * 1000: 0}, *[0] * 1000]

    assert resolved({"db": 1, "app": [own, ref("db")]}) == {"db": 1, "app": [own, 1]}


def test_a_result_is_no_deeper_than_what_can_be_stored() -> None:
    """The limit is that of storing, and what references put in counts from where they stand."""
    deepest = nested(0, MAX_NESTING)

    assert MAX_NESTING == DEEPEST_STORABLE
    assert stored(deepest)
    assert resolved({"app": ref("db")}, {"db": deepest}) == {"app": deepest}
    assert resolved({"app": nested(ref("db"), 60)}, {"db": nested(0, 40)}) == {"app": deepest}
    assert refusal({"app": nested(ref("db"), 60)}, {"db": nested(CANARY, 41)}) == (
        "'app' → 'db' leads to a value that is nested deeper than 100 levels"
    )


@pytest.mark.parametrize("depth", [101, 10_000])
def test_a_value_that_is_too_deep_is_refused(depth: int) -> None:
    """No recursion goes as deep as a value says."""
    assert refusal({"app": nested(CANARY, depth)}) == "'app' leads to a value that is nested deeper than 100 levels"
    assert "nested deeper" in refusal({"app": ref("db")}, {"db": nested({"a": CANARY}, depth)})


def nested(value: Any, depth: int) -> Any:
    """A value at the bottom of many lists."""
    for _ in range(depth):
        value = [value]
    return value


def test_a_secret_that_is_not_there_is_refused() -> None:
    """The error names the path and the key, and a secret that is null is there."""
    assert refusal({"app": [CANARY, ref("a")]}, {"a": [CANARY, ref("no#/x")]}) == (
        "'app' → 'a' → 'no#/x' leads nowhere: there is no secret 'no'"
    )
    assert refusal({"app": ref("null#/x")}, {"null": None}) == (
        "'app' → 'null#/x' leads nowhere: secret 'null' has no '/x'"
    )


@pytest.mark.parametrize("pointer", ["/x", "/password/0", "/password/x", "/list/2/a", "/", "/a~1b~0"])
def test_a_place_that_is_not_there_is_refused(pointer: str) -> None:
    """The error names key and pointer, and nothing of the value that it does not lead into."""
    value = {"password": CANARY, "list": [CANARY, CANARY]}

    assert refusal({"app": {"x": ref(f"db#{pointer}")}}, {"db": value}) == (
        f"'app' → 'db#{pointer}' leads nowhere: secret 'db' has no '{pointer}'"
    )


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/x", ref("other")),
        ("/$ref", ref("other")),
        ("/a/x", {"a": ref("other"), "password": CANARY}),
        ("/a/$ref", {"a": ref(CANARY)}),
        ("/0/x/y", [ref(f"other#/{CANARY}%")]),
    ],
)
def test_a_pointer_through_a_reference_is_refused(pointer: str, value: Any) -> None:
    """A pointer is looked up in the value as it was written, so the error says that a reference is in its way."""
    others = {"db": value, "other": {"x": {"y": CANARY}}}

    assert refusal({"app": ref(f"db#{pointer}")}, others) == (
        f"'app' → 'db#{pointer}' leads through a reference in secret 'db'; point at what that one points at"
    )


def test_a_pointer_to_a_reference_is_followed() -> None:
    """At its end a pointer may find a reference; and an object with more members than `$ref` is none."""
    others = {"db": {"a": ref("other#/x"), "b": {"$ref": "no", "x": 2}}, "other": {"x": 1}}

    assert resolved({"app": [ref("db#/a"), ref("db#/b/x"), ref("db#/b/$ref")]}, others) == {"app": [1, 2, "no"]}


def test_odd_names_in_a_path_are_escaped() -> None:
    """Whatever a key or a pointer holds, an error is one line that can be printed."""
    problem = refusal({"a#b'%": ref("#/line%0Abreak\x1b%25~1")})

    assert problem.isprintable()
    assert problem.startswith('"a%23b\'%25" → ')


# What belongs to whom


def test_results_share_no_part() -> None:
    """Whoever changes one result, or a part of it, changes neither another one nor what was given or loaded."""
    values: Values = {"app": [ref("db"), ref("db"), ref("db#/list")], "web": ref("db"), "own": {"list": [0]}}
    others: Values = {"db": {"list": [1, {"x": 2}]}}
    before = copy.deepcopy((values, others))

    found = resolved(values, others)
    found["app"][0]["list"][1]["x"] = "changed"
    found["app"][2].append("changed")
    found["own"]["list"].append("changed")

    assert (values, others) == before
    assert found["app"] == [
        {"list": [1, {"x": "changed"}]},
        {"list": [1, {"x": 2}]},
        [1, {"x": 2}, "changed"],
    ]
    assert found["web"] == {"list": [1, {"x": 2}]}
