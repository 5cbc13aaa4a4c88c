"""Spans name what was done and how it ended, and hold neither keys nor values nor messages."""

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from sqlalchemy import event

from secretstore import (
    InvalidSecretValueError,
    KeyRing,
    SecretClient,
    SecretNotFoundError,
    VersionConflictError,
    connect_async,
    open_provider,
)
from secretstore.tracing import Tracing

KEY, VALUE = "a.key.that.nobody.may.see", "Zq7-marker-Xw9"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Where spans end."""
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    """A provider of spans that is not the process's."""
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made


@pytest.fixture
def traced(store: SecretClient, provider: TracerProvider) -> SecretClient:
    """A client that makes spans."""
    return store.observed_by(Tracing(provider))


def attributes(span: ReadableSpan) -> dict[str, object]:
    """What a span says."""
    return dict(span.attributes or {})


def test_each_operation_is_a_span(traced: SecretClient, exporter: InMemorySpanExporter) -> None:
    """Its name is the operation, its kind is that of a client, and it says that it went well."""
    traced.set_secret(KEY, VALUE)
    traced.get_secret(KEY)

    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["secretstore set_secret", "secretstore get_secret"]
    assert {span.kind for span in spans} == {trace.SpanKind.CLIENT}
    assert attributes(spans[0]) == {
        "secretstore.part": "client",
        "secretstore.operation": "set_secret",
        "secretstore.outcome": "ok",
    }


def test_a_failure_is_its_type_and_nothing_more(traced: SecretClient, exporter: InMemorySpanExporter) -> None:
    """Neither the message, which names the key, nor a traceback is in the span; what is missing is no failure."""
    traced.set_secret(KEY, VALUE)
    with pytest.raises(VersionConflictError):
        traced.set_secret(KEY, VALUE, expected_version=7)
    with pytest.raises(InvalidSecretValueError):
        traced.get_secret(KEY, int)
    with pytest.raises(SecretNotFoundError):
        traced.get_secret_or_raise("missing")

    _, conflict, wrong, missing = exporter.get_finished_spans()
    assert attributes(conflict)["error.type"] == "VersionConflictError"
    assert attributes(wrong)["secretstore.outcome"] == "invalid"
    assert [span.status.status_code for span in (conflict, wrong, missing)] == [
        StatusCode.ERROR,
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]
    for span in exporter.get_finished_spans():
        assert (span.status.description, list(span.events)) == (None, [])
        assert KEY not in span.to_json()
        assert VALUE not in span.to_json()


def test_spans_are_nested_in_the_host_s_and_hold_those_inside(
    traced: SecretClient, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """The span of an operation is current while it runs, and no longer afterwards."""
    inside: list[trace.Span] = []
    event.listen(traced.engine, "before_cursor_execute", lambda *_: inside.append(trace.get_current_span()))
    with provider.get_tracer("host").start_as_current_span("request") as request:
        traced.get_secret_count()
        assert trace.get_current_span() is request

    operation, outer = exporter.get_finished_spans()
    assert operation.parent is not None
    assert outer.context is not None
    assert operation.parent.span_id == outer.context.span_id
    assert [span.get_span_context() for span in inside] == [operation.context]


def test_awaited_operations_do_not_take_each_other_s_place(
    database_url: str, keyring: KeyRing, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """Of tasks that run at once each span is a child of the request alone."""

    async def scenario() -> int:
        async with await connect_async(database_url, keyring=keyring, observer=Tracing(provider)) as store:
            with provider.get_tracer("host").start_as_current_span("request") as request:
                await asyncio.gather(*(store.get_secret(f"k{place}") for place in range(5)))
        return request.get_span_context().span_id

    parent = asyncio.run(scenario())

    spans = [span for span in exporter.get_finished_spans() if span.name == "secretstore get_secret"]
    assert [span.parent and span.parent.span_id for span in spans] == [parent] * 5


def test_the_namespace_is_named_where_that_is_asked_for(
    store: SecretClient, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """Of a client and of its siblings."""
    store.observed_by(Tracing(provider, with_namespace=True)).namespace("staging").get_secret_count()

    (span,) = exporter.get_finished_spans()
    assert attributes(span)["secretstore.namespace"] == "staging"


def test_calls_of_providers_are_spans_too(provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
    """They name the kind of provider."""
    open_provider("memory:", observer=Tracing(provider)).read(KEY)

    (span,) = exporter.get_finished_spans()
    assert span.name == "secretstore read_secret"
    assert attributes(span)["secretstore.kind"] == "memory"


def test_without_an_sdk_nothing_happens(store: SecretClient) -> None:
    """The API alone makes no spans, and costs no error."""
    assert store.observed_by(Tracing()).get_secret_count() == 0
