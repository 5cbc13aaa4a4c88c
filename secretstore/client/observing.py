"""Classes of clients, services and keys whose operations tell an observer; whoever has none is not slower for it."""

import inspect
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar

from secretstore.domain.observing import Observed, Observer, observed, telling

T = TypeVar("T")

# What gives another thing, whose operations are told too.
_GIVE_MORE = frozenset({"as_of", "bind"})
# What asks nothing of the store, or goes on for as long as it is read.
_NO_OPERATIONS = _GIVE_MORE | {
    *("namespace", "observed_by", "statistics", "cache_statistics", "close"),
    *("export_secrets", "watch", "sealing"),
}
# Properties that give things with operations of their own.
_PARTS = ("keys", "audit", "grants")
_MARK = "_is_observed"


def observed_face(face: T, observer: Observer, namespace: str) -> T:
    """Return a twin of a client, a service or a past whose operations, and those of what it gives, are told."""
    kind: Any = type(face)  # for mypy, to which not every class is hashable
    made: type[T] = _observed_kind(kind, "")
    return observed(face, made, observer, namespace)


@cache
def _observed_kind(kind: type[Any], prefix: str) -> type[Any]:
    if hasattr(kind, _MARK):
        return kind
    methods = {
        name: method for name, method in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")
    }
    operations = {
        name: telling(method, "client", prefix + name) for name, method in methods.items() if name not in _NO_OPERATIONS
    }
    giving = {name: _giving(method) for name, method in methods.items() if name in _GIVE_MORE}
    more: dict[str, Any] = {_MARK: True, "__module__": kind.__module__, "__doc__": kind.__doc__}
    if "namespace" in methods:
        more["namespace"] = _moving(methods["namespace"])
    for name in _PARTS:
        if isinstance(part := getattr(kind, name, None), property):
            more[name] = _with_part(part, f"{name}_")
    return type(kind.__name__, (kind,), operations | giving | more)


def _giving(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Observed, *args: Any, **kwargs: Any) -> Any:
        return observed_face(method(self, *args, **kwargs), self._observer, self._place)

    return call


def _moving(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Observed, namespace: str) -> Any:
        # A sibling is a copy, and so it is observed already.
        sibling = method(self, namespace)
        vars(sibling)["_place"] = namespace
        return sibling

    return call


def _with_part(part: property, prefix: str) -> property:
    def get(self: Observed) -> Any:
        found = part.__get__(self)
        kind: Any = type(found)
        return observed(found, _observed_kind(kind, prefix), self._observer, self._place)

    return property(get, doc=part.__doc__)
