"""What no error may show: every value of the suites holds the same words."""

import traceback

MARKER = "M4rker-0f-a-value"


def assert_shows_nothing(error: BaseException) -> None:
    """Nothing that can be printed of an error, and of what it came from, holds a value."""
    shown = "".join(traceback.format_exception(error))
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None:
            shown += f"{one!s} {one!r} {one.args!r} {vars(one)!r}"
            left += [one.__cause__, one.__context__]
    assert MARKER not in shown, "an error shows a value"
