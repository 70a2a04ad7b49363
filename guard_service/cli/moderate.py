"""`guard-service moderate`: judge one text or one conversation."""

import asyncio
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToJson
from rich.console import Console

from guard_service.cli.conversation import read_conversation
from guard_service.cli.judge import judging
from guard_service.cli.options import with_settings
from guard_service.cli.verdict_view import print_verdict
from guard_service.moderation import Conversation, Message, Role, Verdict
from guard_service.settings import ModelSettings, ServeSettings
from guard_service.wire.verdict import verdict_to_wire


@with_settings(ModelSettings)
def moderate(
    settings: ServeSettings,
    *,
    text: Annotated[str | None, typer.Argument(help="What a user wrote.")] = None,
    conversation: Annotated[
        str | None,
        typer.Option(
            help='JSON list of {"role", "content"} messages, - for standard input; '
            "the last message is judged.",
            metavar="FILE",
        ),
    ] = None,
    policy: Annotated[str, typer.Option(help="Id of the policy to judge by.", metavar="ID")] = "",
    target: Annotated[
        str | None,
        typer.Option(help="Ask this server instead of a model here.", metavar="HOST:PORT"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole verdict with the API's field names.")
    ] = False,
) -> None:
    """Judge one text or conversation.

    Without --target and --model the embedded demonstration model judges. The exit status says
    whether a verdict was reached (0), not what it is.
    """
    if (text is None) == (conversation is None):
        raise typer.BadParameter("give either a text or --conversation")
    messages = (
        read_conversation(conversation) if conversation else (Message(Role.USER, text or ""),)
    )
    verdict = asyncio.run(_judge(settings, target, messages, policy))
    if as_json:
        typer.echo(_json(verdict))
    else:
        print_verdict(verdict)


async def _judge(
    settings: ServeSettings, target: str | None, conversation: Conversation, policy_id: str
) -> Verdict:
    waiting = "Asking the server" if target else "Loading the model"
    with Console(stderr=True).status(waiting):
        async with judging(settings, target) as judge:
            return await judge.moderate(conversation, policy_id=policy_id)


def _json(verdict: Verdict) -> str:
    return MessageToJson(
        verdict_to_wire(verdict),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        ensure_ascii=False,
    )
