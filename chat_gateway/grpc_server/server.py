"""The gRPC server of the chat API."""

from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from chat_gateway.grpc_server.door import Door
from chat_gateway.grpc_server.draining_server import DrainingServer
from chat_gateway.grpc_server.interceptor import CallInterceptor
from chat_gateway.grpc_server.options import GrpcOptions
from chat_gateway.grpc_server.servicer import ChatServicer
from chat_gateway.metrics import Metrics
from chat_gateway.v1 import chat_pb2, chat_pb2_grpc


class ChatServer(DrainingServer):
    """Serves `servicer` while its async context lasts."""

    def __init__(
        self,
        servicer: ChatServicer,
        options: GrpcOptions,
        metrics: Metrics,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        door = Door()
        calls = CallInterceptor(metrics, door, max_unread_seconds=options.max_unread_seconds)
        server = grpc.aio.server(interceptors=(*interceptors, calls), options=options.transport)
        chat_pb2_grpc.add_ChatServiceServicer_to_server(servicer, server)
        if options.reflection:
            names = [
                chat_pb2.DESCRIPTOR.services_by_name["ChatService"].full_name,
                health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
                reflection.SERVICE_NAME,
            ]
            reflection.enable_server_reflection(names, server)
        super().__init__(server, door, host=options.host, port=options.port)
