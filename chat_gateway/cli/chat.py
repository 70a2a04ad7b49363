"""`chat-gateway chat`: talk with a running gateway from the terminal."""

from typing import Annotated

import typer
from rich.console import Console

from chat_gateway.chat import GatewayError
from chat_gateway.cli.gateway_client import GatewayClient
from chat_gateway.cli.terminal import show_answer

DEFAULT_URL = "http://127.0.0.1:8080"


def chat(
    *,
    text: Annotated[
        str | None, typer.Argument(help="Ask this and leave; without it, a conversation begins.")
    ] = None,
    url: Annotated[str, typer.Option(help="Address of the gateway.")] = DEFAULT_URL,
    policy: Annotated[
        str, typer.Option(help="Id of the policy to be answered under.", metavar="ID")
    ] = "",
    model: Annotated[str, typer.Option(help="Model to ask.", metavar="NAME")] = "",
    system: Annotated[
        str, typer.Option(help="Instructions to the model, before all turns.", metavar="TEXT")
    ] = "",
) -> None:
    """Talk with a running gateway: answers stream in, with the guard's verdicts beside them.

    Turns that were blocked are left out of the conversation that follows. An empty line, Ctrl-D or
    Ctrl-C ends it.
    """
    client = GatewayClient(url.rstrip("/"), policy, model)
    console = Console(highlight=False)
    opening = [{"role": "system", "content": system}] if system else []
    if text is not None:
        show_answer(console, client.chat([*opening, _turn("user", text)]))
        return
    console.print(f"Talking with {client.default_model()} at {client.url}.", style="dim")
    _converse(console, client, opening)


def _converse(console: Console, client: GatewayClient, messages: list[dict[str, str]]) -> None:
    while question := _question(console):
        asked = [*messages, _turn("user", question)]
        try:
            answer = show_answer(console, client.chat(asked))
        except GatewayError as error:
            console.print(f"  {error}", style="yellow", markup=False)
            continue
        if answer is not None:
            messages[:] = [*asked, _turn("assistant", answer)]


def _question(console: Console) -> str:
    try:
        return console.input("\n[bold]you[/bold]  ").strip()
    except (EOFError, KeyboardInterrupt):
        return ""


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
