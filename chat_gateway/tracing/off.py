"""What tracing adds to the gateway, switched off: nothing. `on` has the other one."""

from collections.abc import Sequence

from starlette.types import ASGIApp

from chat_gateway.generators.protocol import Generator
from chat_gateway.guard import Guard
from chat_gateway.observer import Observer
from chat_gateway.pipeline import Pipeline
from guard_service.tracing import off


class NoTracing(off.NoTracing):
    """Adds nothing, and needs no OpenTelemetry."""

    def http(self, app: ASGIApp) -> ASGIApp:
        """Answers as `app` does; requests to the API get a span."""
        return app

    def pipeline(self, pipeline: Pipeline) -> Pipeline:
        """Answers as `pipeline` does; chats get a span."""
        return pipeline

    def guard(self, guard: Guard) -> Guard:
        """Judges as `guard` does; questions to it get a span."""
        return guard

    def generator(self, generator: Generator, server: str | None) -> Generator:
        """Writes as `generator` does; answers get a span. `server` is the URL it is behind."""
        del server
        return generator

    def chat_observers(self) -> Sequence[Observer]:
        """Listen to the pipeline, and write into the span of the chat."""
        return ()


NO_TRACING = NoTracing()
