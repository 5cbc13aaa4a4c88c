"""Spans of OpenTelemetry (extra `otel`) for what this process does with secrets.

A span names the operation and how it ended, and never holds a key, a value, or the message of an error: messages name keys.
The API alone makes no spans; it takes an SDK, which is the host's.
"""

from typing import Any

from secretstore.domain.observing import End, Part, outcome_of

try:
    from opentelemetry import context, trace
    from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider
except ImportError as error:
    raise ImportError("spans need the extra `otel`: python -m pip install 'pg-secretstore[otel]'") from error

_NAME = "secretstore"


class Tracing:
    """Makes a span of every call, in which those of the driver and of SDKs are nested.  Hand it over as `observer`.

    The provider of spans is the given one, else the process's.  With `with_namespace` spans of operations name the
    namespace.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None, *, with_namespace: bool = False) -> None:
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        self._with_namespace = with_namespace

    def begin(self, part: Part, operation: str, place: str) -> End:
        """See `Observer.begin`."""
        span = self._tracer.start_span(
            f"{_NAME} {operation}", kind=SpanKind.CLIENT, attributes=self._attributes(part, operation, place)
        )
        token = context.attach(trace.set_span_in_context(span))

        def end(error: BaseException | None) -> None:
            context.detach(token)
            outcome = outcome_of(error)
            span.set_attribute("secretstore.outcome", outcome)
            if error is not None:
                span.set_attribute("error.type", type(error).__name__)
                # That there is no such secret is an answer.
                if outcome != "not_found":
                    span.set_status(Status(StatusCode.ERROR))
            span.end()

        return end

    def _attributes(self, part: Part, operation: str, place: str) -> dict[str, Any]:
        found = {"secretstore.part": part, "secretstore.operation": operation}
        if part != "client":
            return found | {"secretstore.kind": place}
        return found | {"secretstore.namespace": place} if self._with_namespace else found
