"""Health, and the document that describes the API."""

from guard_service.moderation import NotReady
from tests.chat_gateway.fakes import FakeGuard, ScriptedGenerator
from tests.chat_gateway.http_api.serving import running_gateway


class SilentGuard(FakeGuard):
    """A guard that cannot be reached."""

    async def info(self, *, timeout_seconds=30.0):
        del timeout_seconds
        raise NotReady("starting")


async def test_a_gateway_with_all_its_parts_is_ready():
    async with running_gateway() as gateway:
        live = await gateway.http.get("/health/live")
        ready = await gateway.http.get("/health/ready")
    assert live.status_code == ready.status_code == 200
    assert ready.json() == {"status": "ready", "guard": "ready", "generator": "ready"}


async def test_a_gateway_without_its_guard_lives_but_is_not_ready():
    async with running_gateway(guard=SilentGuard()) as gateway:
        live = await gateway.http.get("/health/live")
        ready = await gateway.http.get("/health/ready")
    assert live.status_code == 200
    assert ready.status_code == 503
    assert ready.json()["guard"] == "unavailable"


async def test_a_gateway_without_its_generator_is_not_ready():
    generator = ScriptedGenerator([])
    await generator.close()
    async with running_gateway(generator=generator) as gateway:
        ready = await gateway.http.get("/health/ready")
    assert ready.status_code == 503
    assert ready.json()["generator"] == "unavailable"


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


async def test_the_document_names_every_endpoint_and_every_shape_it_refers_to():
    async with running_gateway() as gateway:
        document = (await gateway.http.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/v1/chat/completions",
        "/v1/moderations",
        "/v1/models",
        "/v1/policies",
        "/health/live",
        "/health/ready",
    }
    schemas = document["components"]["schemas"]
    prefix = "#/components/schemas/"
    assert {each.removeprefix(prefix) for each in references(document)} <= set(schemas)
    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert chat["requestBody"]["content"]["application/json"]["schema"]["$ref"] == (
        f"{prefix}ChatCompletionRequest"
    )
    assert "text/event-stream" in chat["responses"]["200"]["content"]
    assert schemas["ChatCompletionRequest"]["additionalProperties"] is False
    assert "422" not in chat["responses"]
