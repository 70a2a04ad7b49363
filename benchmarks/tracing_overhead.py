"""What tracing costs a gateway whose guard and generator cost nothing.

The same chats, in turns, of gateways that differ in their tracing alone. Each is a process of its
own; its CPU time stands beside the wall time, because other processes disturb it less.
"""

import asyncio
import socket
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc
import typer
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from rich.progress import track

from benchmarks.gateway_stand_in import StandInProcess, chat_body
from benchmarks.lean_http import connected, post
from benchmarks.report import Output, Quick, show, write

PATH = "/v1/chat/completions"
CASES = {
    "an answer of one token": post(PATH, chat_body(1, 0, stream=False), {}),
    "64 tokens, streamed, each checked": post(
        PATH, chat_body(64, 0, stream=True), {"x-guard-policy": "strict, each token"}
    ),
}
CHATS_PER_ROUND = 25


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans and forgets them."""

    def Export(  # noqa: D102, N802 - the contract's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        del request, context
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def receiver() -> Iterator[str]:
    """A collector while the context lasts; yields its address."""
    server = grpc.server(ThreadPoolExecutor(2))
    add = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(Receiver(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()


async def round_of(server: StandInProcess, request: bytes) -> tuple[float, float]:
    """Milliseconds of a chat (median), and of CPU for each, over one round."""
    seconds, cpu = [], server.cpu_seconds
    async with connected(server.port) as connection:
        for _ in range(CHATS_PER_ROUND):
            began = time.perf_counter()
            async for _piece in connection.ask(request):
                pass
            seconds.append(time.perf_counter() - began)
    spent = (server.cpu_seconds - cpu) / CHATS_PER_ROUND
    return 1000 * statistics.median(seconds), 1000 * spent


def main(*, rounds: int = 20, quick: Quick = False, output: Output = None) -> None:
    """Let the gateways take turns for so many rounds of each case."""
    rounds, rows = 2 if quick else rounds, []
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as silent:
        collector = stack.enter_context(receiver())
        variables: dict[str, dict[str, str]] = {
            "off": {},
            "on, sampled out": _variables(collector, 0.0),
            "on, all sampled": _variables(collector, 1.0),
            "on, silent collector": _variables(f"127.0.0.1:{silent.getsockname()[1]}", 1.0),
        }
        servers = {
            name: stack.enter_context(StandInProcess(**given)) for name, given in variables.items()
        }
        for case, request in CASES.items():
            results: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
            for _ in track(range(rounds + 1), case):
                for name, server in servers.items():
                    results[name].append(asyncio.run(round_of(server, request)))
            rows += [_row(case, name, results) for name in servers]
    show("Tracing in a gateway whose guard and generator cost nothing", rows)
    write("tracing_overhead", {"rows": rows}, quick=quick, output=output)


def _variables(collector: str, ratio: float) -> dict[str, str]:
    return {"GATEWAY_OTLP_ENDPOINT": collector, "GATEWAY_TRACE_SAMPLE_RATIO": str(ratio)}


def _row(case: str, name: str, results: dict[str, list[tuple[float, float]]]) -> dict[str, object]:
    """Medians over the rounds but the first, and their distance to the round without tracing."""
    own, off = results[name][1:], results["off"][1:]
    ms, cpu = ([each[i] for each in own] for i in (0, 1))
    more = [mine - bare for (mine, _), (bare, _) in zip(own, off, strict=True)]
    more_cpu = [mine - bare for (_, mine), (_, bare) in zip(own, off, strict=True)]
    return {
        "chat": case,
        "tracing": name,
        "ms": round(statistics.median(ms), 2),
        "more ms": round(statistics.median(more), 2),
        "CPU ms": round(statistics.median(cpu), 2),
        "more CPU ms": round(statistics.median(more_cpu), 2),
    }


if __name__ == "__main__":
    typer.run(main)
