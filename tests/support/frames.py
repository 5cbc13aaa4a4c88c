"""What tools show that report errors with the locals of every frame."""

import traceback
from collections.abc import Iterator


def shown_by_frames(error: BaseException) -> list[str]:
    """Return what they show, but for the frame of the test itself, which knows what it wrote.

    They take containers apart and ask everything else for its repr.
    """
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)][1:]
    return [text for frame in frames for text in _collected(frame)]


def _collected(value: object, depth: int = 4) -> Iterator[str]:
    if depth and isinstance(value, dict):
        value = [*value, *value.values()]
    if depth and isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from _collected(part, depth - 1)
    else:
        yield repr(value)
