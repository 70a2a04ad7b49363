"""Ports, reflection and the options of gRPC itself."""

from dataclasses import replace

import grpc
import pytest
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from guard_service.grpc_server.options import max_message_bytes
from guard_service.limits import Limits
from guard_service.moderation import ConfigurationError
from guard_service.v1 import guard_pb2
from tests.fakes import FakeEngine, scores
from tests.serving import QUICK, Service, conversation, failure_of, running_server


async def services_of(service: Service) -> list[str]:
    async def requests():
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    stub = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    response = await anext(aiter(stub.ServerReflectionInfo(requests())))
    return [each.name for each in response.list_services_response.service]


async def test_reflection_lists_the_services():
    async with running_server() as service:
        assert "guard_service.v1.GuardService" in await services_of(service)


async def test_reflection_can_be_switched_off():
    async with running_server(options=replace(QUICK, reflection=False)) as service:
        # In one piece: gRPC may call it INTERNAL when a stream it writes to has ended already.
        ask = service.channel.unary_unary(f"/{reflection.SERVICE_NAME}/ServerReflectionInfo")
        error = await failure_of(ask(b""))

    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_port_in_use_is_one_clear_line(capfd: pytest.CaptureFixture[str]):
    async with running_server() as service:
        port = service.server.port
        with pytest.raises(ConfigurationError) as caught:
            async with running_server(options=replace(QUICK, port=port)):
                pass

    assert str(caught.value) == f"cannot listen on 127.0.0.1:{port}: Address already in use"
    assert capfd.readouterr().err == ""


async def test_a_foreign_address_is_one_clear_line():
    with pytest.raises(ConfigurationError, match=r"^cannot listen on 203\.0\.113\.1:0: .+$"):
        async with running_server(options=replace(QUICK, host="203.0.113.1")):
            pass


async def test_a_model_without_verdicts_is_never_served():
    babbling = FakeEngine(lambda _text, num_categories: scores(float("nan"), num_categories))
    with pytest.raises(ConfigurationError, match=r"^the model gives no verdicts: "):
        async with running_server(babbling):
            pass


async def test_the_largest_batch_within_the_limits_is_accepted():
    limits = Limits(max_messages=2, max_content_bytes=20_000, max_batch_conversations=3)
    request = guard_pb2.ModerateBatchRequest(
        conversations=[conversation("a" * 10_000, "b" * 10_000)] * 3
    )
    async with running_server(limits=limits) as service:
        response = await service.stub.ModerateBatch(request)

    assert request.ByteSize() <= max_message_bytes(limits)
    assert [item.WhichOneof("result") for item in response.items] == ["verdict"] * 3
