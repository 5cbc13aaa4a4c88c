"""Flows that are carried out some steps at a time, as by a process that is slow, or that dies."""

from typing import Generic, TypeVar

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from secretstore.service.flows import Flow, Outside, Step

T = TypeVar("T")


class HeldFlow(Generic[T]):
    """A flow that goes on when it is told to; whoever drops it has broken it off."""

    def __init__(self, engine: Engine, flow: Flow[T]) -> None:
        self._engine = engine
        self._flow = flow
        self._answer: object = None
        self.steps = 0
        self.results: list[T] = []

    def advance(self, steps: int) -> bool:
        """Carry out so many steps, each in a transaction of its own; return whether that was the end."""
        for _ in range(steps):
            try:
                step = self._flow.send(self._answer)
            except StopIteration as end:
                self.results.append(end.value)
                return True
            self._answer = self._carried_out(step)
            self.steps += 1
        return False

    def _carried_out(self, step: Step) -> object:
        if isinstance(step, Outside):
            return step.do()
        with Session(self._engine) as session, session.begin():
            return step.do(session)
