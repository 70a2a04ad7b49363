"""What tracing adds to the gateway, switched on."""

from collections.abc import Sequence

from starlette.types import ASGIApp

from chat_gateway.generators.protocol import Generator
from chat_gateway.guard import Guard
from chat_gateway.observer import Observer
from chat_gateway.pipeline import Pipeline
from chat_gateway.tracing.chat import ChatSpans, TracedPipeline
from chat_gateway.tracing.generator import TracedGenerator
from chat_gateway.tracing.guard import TracedGuard
from chat_gateway.tracing.http import TracedApp
from chat_gateway.tracing.off import NoTracing
from guard_service.tracing import on


class Tracing(on.Tracing, NoTracing):
    """Spans from the gateway's requests, sent to a collector."""

    def http(self, app: ASGIApp) -> ASGIApp:
        """Answers as `app` does; requests to the API get a span."""
        return TracedApp(app, self._tracer)

    def pipeline(self, pipeline: Pipeline) -> Pipeline:
        """Answers as `pipeline` does; chats get a span."""
        return TracedPipeline(pipeline, self._tracer)

    def guard(self, guard: Guard) -> Guard:
        """Judges as `guard` does; questions to it get a span."""
        return TracedGuard(guard, self._tracer)

    def generator(self, generator: Generator, server: str | None) -> Generator:
        """Writes as `generator` does; answers get a span. `server` is the URL it is behind."""
        return TracedGenerator(generator, self._tracer, server)

    def chat_observers(self) -> Sequence[Observer]:
        """Listen to the pipeline, and write into the span of the chat."""
        return (ChatSpans(),)
