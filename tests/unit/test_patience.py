"""Pauses grow, are never in step, and come to an end."""

import pytest

from secretstore.client.patience import Patience
from secretstore.client.retrying import Retrying
from secretstore.errors import StoreUnavailableError
from tests.support.clock import Clock

ERROR = StoreUnavailableError("away", is_transient=True)


def pauses(seconds: float, chance: float) -> list[float]:
    """All pauses until patience ends, each of them waited out."""
    clock, waited = Clock(), list[float]()
    patience = Patience(seconds, chance=lambda: chance, clock=clock)

    def wait_for_ever() -> None:
        while True:
            waited.append(patience.next_pause(ERROR))
            clock.now += waited[-1]

    with pytest.raises(StoreUnavailableError) as caught:
        wait_for_ever()
    assert caught.value is ERROR
    return waited


def test_pauses_grow_to_a_longest_and_end_in_time() -> None:
    """Each is twice the one before, up to two seconds, and together they fill the time exactly."""
    found = pauses(10, chance=1.0)

    assert found[:8] == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.0])
    assert max(found) <= 2.0
    assert sum(found) == pytest.approx(10)


def test_chance_takes_up_to_a_half_of_a_pause() -> None:
    """Those who failed together do not come back together."""
    assert pauses(10, chance=0.0)[:3] == pytest.approx([0.01, 0.02, 0.04])
    assert pauses(10, chance=0.5)[:3] == pytest.approx([0.015, 0.03, 0.06])


def test_without_time_there_is_no_pause() -> None:
    """Zero seconds are never."""
    assert pauses(0, chance=1.0) == []


def test_the_time_begins_with_the_first_failure() -> None:
    """A call that was slow before it failed is still tried again."""
    clock = Clock()
    patience = Patience(1, chance=lambda: 1.0, clock=clock)
    clock.now += 1000
    assert patience.next_pause(ERROR) == pytest.approx(0.02)


def test_only_who_was_there_before_tries_again_to_connect() -> None:
    """A server that was reached once may be on its way back; one that never was is a mistake."""
    unreached = StoreUnavailableError("refused", is_transient=True, was_unreached=True)
    retrying = Retrying(30)

    assert not retrying.allows(unreached)
    assert retrying.allows(ERROR)
    assert retrying.allows(unreached)
    assert not retrying.allows(StoreUnavailableError("the pool is full"))
