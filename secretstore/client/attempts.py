"""Which calls go into the record of accesses where they are refused or fail, and of which keys they are."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from functools import cache, wraps
from itertools import islice
from types import MappingProxyType
from typing import Any, TypeVar, cast

from secretstore.domain.accesses import Accessed
from secretstore.domain.names import parse_key
from secretstore.errors import InvalidSecretKeyError, PermissionDeniedError, SecretNotFoundError, SecretStoreError

T = TypeVar("T")

# By the names of methods, and of the bodies that several methods have in common.
ACTIONS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("get_secret", "get_secret_or_raise", "get_secrets", "get_secrets_by_prefix"), "get"),
        **dict.fromkeys(("list_secret_keys", "list_secrets", "get_secret_count"), "list"),
        **dict.fromkeys(("set_secret", "set_secrets"), "set"),
        **dict.fromkeys(("delete_secret", "delete_secrets"), "delete"),
        **dict.fromkeys(("set_labels", "patch_labels"), "labels"),
        "find_to_keep": "get",
        "read_page": "export",
        "describe_secret": "describe",
        "list_versions": "history",
        "patch_secret": "patch",
        "rollback_secret": "rollback",
        "undelete_secret": "undelete",
        "destroy_versions": "destroy",
        "purge_secret": "purge",
        "collect": "purge",
        "import_secrets": "import",
        "restore": "restore",
        "set_max_versions": "limit",
        "rotate": "rotate",
        "rewrap": "rewrap",
        "destroy": "destroy_data_key",
        "shred": "shred",
        "reencrypt": "reencrypt",
        "add": "grant",
        "revoke": "revoke",
        "drop_accesses": "drop",
    }
)
# Of a call with more keys than that, these are recorded.
_MOST_KEYS = 100
_GIVEN = ("key", "keys", "values")
_PAST = "as_of"
_NO_KEYS = frozenset(
    {"get_secrets_by_prefix", "list_secret_keys", "list_secrets", "get_secret_count", "read_page", "set_max_versions"}
)

# Is told of a call by its name, of what it was called with, and how it failed.
OnFailure = Callable[[str, Sequence[object], SecretStoreError], Any]


def accesses_of_failure(name: str, arguments: Sequence[object], error: SecretStoreError) -> list[Accessed]:
    """Return what is recorded of a call that raised; nothing where it is none of those that are."""
    action = ACTIONS.get(name)
    if action is None:
        return []
    outcome = _outcome(error)
    keys = [""] if name in _NO_KEYS else _keys(arguments)
    return [Accessed(key, action=action, outcome=outcome) for key in keys]


def recorded(face: T, on_failure: OnFailure) -> T:
    """Return a twin of a service that shares all it has, and tells of each of its calls that fails."""
    twin: Any = copy(face)
    kind: Any = type(face)  # for mypy, to which not every class is hashable
    twin.__class__ = _recorded_kind(kind)
    vars(twin)["_on_failure"] = on_failure
    return cast("T", twin)


def _outcome(error: SecretStoreError) -> str:
    if isinstance(error, PermissionDeniedError):
        return "denied"
    return "missing" if type(error) is SecretNotFoundError else "failed"


def _keys(arguments: Sequence[object]) -> list[str]:
    first = arguments[0] if arguments else ""
    many = isinstance(first, Mapping | Sequence) and not isinstance(first, str)
    # Of an import these are no keys but whole secrets, perhaps a million.
    asked = islice(cast("Iterable[object]", first if many else [first]), _MOST_KEYS)
    return [_legal(key) for key in asked if isinstance(key, str)] or [""]


def _legal(key: str) -> str:
    try:
        return parse_key(key)
    except InvalidSecretKeyError:
        return ""


@cache
def _recorded_kind(kind: type[Any]) -> type[Any]:
    members = {name: _telling(getattr(kind, name), name) for name in ACTIONS if hasattr(kind, name)}
    past = {_PAST: _giving(getattr(kind, _PAST))} if hasattr(kind, _PAST) else {}
    return type(kind.__name__, (kind,), {**members, **past, "__module__": kind.__module__, "__doc__": kind.__doc__})


def _giving(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return recorded(method(self, *args, **kwargs), self._on_failure)

    return call


def _telling(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(method):
        return _telling_async(method, name)

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except SecretStoreError as error:
            self._on_failure(name, _given(args, kwargs), error)
            raise

    return call


def _telling_async(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    @wraps(method)
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await method(self, *args, **kwargs)
        except SecretStoreError as error:
            await self._on_failure(name, _given(args, kwargs), error)
            raise

    return call


def _given(args: Sequence[object], kwargs: Mapping[str, object]) -> Sequence[object]:
    return args or [kwargs[name] for name in _GIVEN if name in kwargs]
