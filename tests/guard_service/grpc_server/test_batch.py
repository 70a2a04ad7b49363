"""Many conversations in one call."""

import grpc

from guard_service.engine.protocol import Scores
from guard_service.moderation import ModerationError
from guard_service.v1 import guard_pb2
from tests.fakes import FakeEngine, flag_bombs
from tests.serving import conversation, running_server


def batch(*contents: str, **fields: str) -> guard_pb2.ModerateBatchRequest:
    return guard_pb2.ModerateBatchRequest(
        conversations=[conversation(content) for content in contents], **fields
    )


async def test_order_is_kept():
    contents = ["bomb" if i % 3 == 0 else f"bread {i}" for i in range(20)]
    async with running_server(max_batch_tokens=40) as service:
        response = await service.stub.ModerateBatch(batch(*contents))

    assert [item.verdict.unsafe for item in response.items] == [i % 3 == 0 for i in range(20)]
    assert len(service.engine.journal) > 1


async def test_an_item_at_fault_fails_alone():
    async with running_server() as service:
        response = await service.stub.ModerateBatch(batch("bread", " ", "bomb"))

    good, bad, unsafe = response.items
    assert (good.verdict.unsafe, unsafe.verdict.unsafe) == (False, True)
    assert bad.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert bad.error.message == "conversation.messages[0].content: must not be empty or blank"


async def test_an_item_the_model_stumbles_over_fails_alone():
    def judge(text: str, num_categories: int) -> Scores | ModerationError:
        if "stumble" in text:
            raise ZeroDivisionError(text)
        return flag_bombs(text, num_categories)

    async with running_server(FakeEngine(judge)) as service:
        response = await service.stub.ModerateBatch(batch("bread", "stumble", "bomb"))

    assert [item.WhichOneof("result") for item in response.items] == ["verdict", "error", "verdict"]
    assert response.items[1].error.code == grpc.StatusCode.INTERNAL.value[0]
    assert "stumble" not in response.items[1].error.message
    assert service.counted("guard_dropped_total", reason="failed") == 1


async def test_what_does_not_fit_the_queue_is_refused_item_by_item():
    async with running_server(max_queue_items=2) as service:
        response = await service.stub.ModerateBatch(batch("bread", "bread", "bomb"))

    assert [item.WhichOneof("result") for item in response.items] == ["verdict", "verdict", "error"]
    assert response.items[2].error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert response.items[2].error.retry_after_ms >= 1000


async def test_a_batch_has_one_request_id():
    async with running_server() as service:
        response = await service.stub.ModerateBatch(batch("bread", request_id="many"))

    assert response.request_id == "many"
