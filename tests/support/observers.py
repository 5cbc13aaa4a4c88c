"""An observer that keeps what it is told."""

from dataclasses import dataclass, field

from secretstore.domain.observing import End, Part, outcome_of


@dataclass
class Told:
    """Calls in the order in which they ended: part, operation, place, outcome."""

    ended: list[tuple[str, str, str, str]] = field(default_factory=list)

    def begin(self, part: Part, operation: str, place: str) -> End:
        """Keep the call at its end."""

        def end(error: BaseException | None) -> None:
            self.ended.append((part, operation, place, outcome_of(error)))

        return end
