"""The gRPC server that Envoy calls."""

from dataclasses import dataclass

import grpc
from starlette.types import ASGIApp

from chat_gateway.ext_proc.processor import METHOD, Processor
from chat_gateway.ext_proc.requests import PathRules
from chat_gateway.ext_proc.v3 import external_processor_pb2 as pb2
from chat_gateway.grpc_server.door import Door
from chat_gateway.grpc_server.draining_server import DrainingServer
from chat_gateway.grpc_server.options import GrpcOptions
from chat_gateway.metrics import Metrics

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"

MESSAGE_MARGIN_BYTES = 131_072
"""What a message takes beside the body it carries: headers, most of all."""
MAX_PIECE_BYTES = 4_194_304
"""More than a piece of an answer has: Envoy cuts them by its own buffers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorOptions:
    """Where to listen, the largest request's body in bytes, and which requests are judged."""

    host: str
    port: int
    max_body_bytes: int
    rules: PathRules

    @property
    def transport(self) -> tuple[tuple[str, int], ...]:
        """What gRPC itself is told."""
        largest = max(self.max_body_bytes, MAX_PIECE_BYTES) + MESSAGE_MARGIN_BYTES
        return GrpcOptions(max_message_bytes=largest).transport


class ProcessorServer(DrainingServer):
    """Serves Envoy while its async context lasts; `app` answers the chats."""

    def __init__(self, app: ASGIApp, options: ProcessorOptions, metrics: Metrics) -> None:
        door = Door()
        server = grpc.aio.server(options=options.transport)
        handler = grpc.stream_stream_rpc_method_handler(
            Processor(app, options.rules, metrics, door).process,
            request_deserializer=pb2.ProcessingRequest.FromString,
            response_serializer=pb2.ProcessingResponse.SerializeToString,
        )
        handlers = grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler})
        server.add_generic_rpc_handlers((handlers,))
        super().__init__(server, door, host=options.host, port=options.port)
