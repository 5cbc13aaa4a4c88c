"""YAML: written so that no reader takes a text for anything else, and read as what JSON could say.

Plain words that are not in quotes mean what they mean in JSON: `null`, `true`, `false` (also `~`, nothing at all, and
with capitals) and JSON's numbers.  All else is text as it stands: dates, `no`, `1:20`, `0755`, `.inf`, which versions of
YAML read differently.  So a secret is never turned into another because nobody put it in quotes.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import yaml
from yaml.reader import ReaderError

from secretstore.errors import InvalidSecretValueError

_OTHER_LINE_ENDS = frozenset("\x85\u2028\u2029")

_TAGS = "tag:yaml.org,2002:"
_TEXT = f"{_TAGS}str"
_OBJECT = f"{_TAGS}map"
_LIST = f"{_TAGS}seq"
_WHOLE = r"-?(?:0|[1-9][0-9]*)"
# The first that fits is what a plain word is; only text fits all.
_SCALARS: dict[str, tuple[re.Pattern[str], Callable[[str], Any]]] = {
    f"{_TAGS}null": (re.compile(r"(?:null|Null|NULL|~|)\Z"), lambda _: None),
    f"{_TAGS}bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), lambda word: word.lower() == "true"),
    f"{_TAGS}int": (re.compile(rf"{_WHOLE}\Z"), int),
    f"{_TAGS}float": (re.compile(rf"{_WHOLE}(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?\Z"), float),
    _TEXT: (re.compile(""), str),
}
# Readers differ in what else they take for a number, a date or a boolean.
_DOUBTFUL = re.compile(r"[-+]?\.?[0-9]|[yYnN]\Z")


def to_yaml(data: Any) -> str:
    """Return JSON data as YAML, without a line end; `from_yaml` and any other reader find the same data in it."""
    text = _dumped(data, allow_unicode=True)
    if _OTHER_LINE_ENDS & set(text):
        # Written as they are they would be read back as spaces.
        text = _dumped(data, allow_unicode=False)
    # A lone scalar is followed by the mark of a document's end.
    return text.removesuffix("...\n").removesuffix("\n")


def from_yaml(text: str) -> Any:
    """Return the JSON data of a file; errors say where, and not what.

    An empty file is null.  Refused are aliases, merge keys, tags other than JSON's types, names that are not text, and
    the same name twice.
    """
    try:
        return _value_of(yaml.compose(text, Loader=_Loader))
    except _RefusedError as error:
        problem = str(error)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        problem = f"see line {mark.line + 1}, column {mark.column + 1}" if mark else "it breaks off"
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"line {line} holds a character that YAML has only as an escape"
    except RecursionError:
        problem = "it is nested too deep"
    raise InvalidSecretValueError(f"the file cannot be read as YAML: {problem}")


class _Dumper(yaml.SafeDumper):
    """Puts more texts in quotes than PyYAML itself would need, and writes each thing out where it stands."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's way to say it
        **yaml.SafeDumper.yaml_implicit_resolvers,
        None: [("!doubtful", _DOUBTFUL)],
    }

    def ignore_aliases(self, _: Any) -> bool:
        """Write no alias, even where one object stands in two places."""
        return True


class _Loader(yaml.SafeLoader):
    """Tells JSON's plain words from texts, and follows no alias."""

    yaml_implicit_resolvers = {None: [(tag, pattern) for tag, (pattern, _) in _SCALARS.items()]}  # noqa: RUF012 - ditto

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node."""
        if self.check_event(yaml.AliasEvent):
            raise _RefusedError(self.current_event.start_mark, "an alias (*) is not taken; write the value out")
        return super().compose_node(parent, index)

    def fetch_more_tokens(self) -> None:
        """Read on; PyYAML itself lets Python's own errors through."""
        try:
            super().fetch_more_tokens()
        except (ValueError, OverflowError):
            pass
        else:
            return
        raise _RefusedError(self.get_mark(), "an escape or a directive holds a number that is none, or too large")


class _RefusedError(Exception):
    """Says what YAML has and a file of secrets must not have."""

    def __init__(self, mark: yaml.Mark, words: str) -> None:
        super().__init__(f"line {mark.line + 1}: {words}")


def _dumped(data: Any, *, allow_unicode: bool) -> str:
    return str(yaml.dump(data, Dumper=_Dumper, allow_unicode=allow_unicode, sort_keys=False, width=float("inf")))


def _value_of(node: yaml.Node | None) -> Any:
    if node is None:
        return None
    if isinstance(node, yaml.MappingNode) and node.tag == _OBJECT:
        return _object_of(node)
    if isinstance(node, yaml.SequenceNode) and node.tag == _LIST:
        return [_value_of(part) for part in node.value]
    if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
        return _scalar_of(node)
    raise _RefusedError(node.start_mark, "it has a tag (!) of another type than those of JSON")


def _object_of(node: yaml.MappingNode) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for name_node, value_node in node.value:
        name = _name_of(name_node)
        if name in parsed:
            raise _RefusedError(name_node.start_mark, "an object has two members of the same name")
        parsed[name] = _value_of(value_node)
    return parsed


def _name_of(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag != _TEXT:
        raise _RefusedError(node.start_mark, "a name is not text; put it in quotes")
    if node.value == "<<" and node.style is None:
        raise _RefusedError(
            node.start_mark, "a merge key (<<) is not taken; write the members out, or put it in quotes"
        )
    return str(node.value)


def _scalar_of(node: yaml.ScalarNode) -> Any:
    pattern, read = _SCALARS[node.tag]
    if not pattern.match(node.value):
        raise _RefusedError(node.start_mark, "the tag (!!) does not fit what follows it")
    try:
        value = read(node.value)
    except ValueError:
        value = math.inf
    if isinstance(value, float) and math.isinf(value):
        raise _RefusedError(node.start_mark, "a number is too large or too long")
    return value
