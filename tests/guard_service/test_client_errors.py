"""What the client makes of a connection that broke, as against a service that failed."""

import asyncio

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from guard_service.client.errors import REQUEST_ID_TRAILER, domain_errors
from guard_service.moderation import InvalidRequest, JudgementFailed, NotReady, Overloaded


def failure(code: grpc.StatusCode, **trailers: str) -> AioRpcError:
    named = Metadata(*((name.replace("_", "-"), value) for name, value in trailers.items()))
    return AioRpcError(code, Metadata(), named, details="words of the transport")


async def test_an_internal_error_of_the_service_is_a_failed_judgement():
    assert REQUEST_ID_TRAILER == "guard-request-id"
    with pytest.raises(JudgementFailed), domain_errors():
        raise failure(grpc.StatusCode.INTERNAL, guard_request_id="r1")


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED])
async def test_a_connection_that_broke_is_an_absent_guard(code):
    with pytest.raises(NotReady), domain_errors():
        raise failure(code)


async def test_a_call_the_server_cancelled_is_an_absent_guard():
    with pytest.raises(NotReady), domain_errors():
        raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("trailers", "error"),
    [
        ({"grpc_retry_pushback_ms": "1500"}, Overloaded),
        ({"grpc_retry_pushback_ms": "-1"}, InvalidRequest),
        ({"grpc_retry_pushback_ms": "soon"}, InvalidRequest),
        ({}, InvalidRequest),
    ],
)
async def test_what_is_too_large_is_not_called_overload(trailers: dict[str, str], error: type):
    with pytest.raises(error), domain_errors():
        raise failure(grpc.StatusCode.RESOURCE_EXHAUSTED, **trailers)


async def test_the_callers_own_cancelling_stays_one():
    async def wait() -> None:
        with domain_errors():
            await asyncio.sleep(60)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
