"""JSON merge patch: RFC 7396."""

from typing import Any


def merge_patch(target: Any, patch: Any) -> Any:  # any JSON value
    """Return a JSON value as `patch` changes it: an object is merged into an object, null removes, all else replaces.

    Neither argument is changed.  The result shares the parts with them that it takes over whole.
    """
    if not isinstance(patch, dict):
        return patch
    merged = _copied_object(target)
    left = [(merged, patch)]  # instead of recursion: no depth is too deep
    while left:
        left.extend(_apply(*left.pop()))
    return merged


def _apply(merged: dict[str, Any], patch: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Change an object in place but for the objects in it; return those, copied, each with its patch."""
    inner = []
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        elif isinstance(change, dict):
            merged[name] = _copied_object(merged.get(name))
            inner.append((merged[name], change))
        else:
            merged[name] = change
    return inner


def _copied_object(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}
