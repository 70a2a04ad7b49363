"""The command line: `chat-gateway serve | ext-proc | chat | demo | health`.

Exit status: 0 done, 1 no answer could be had or not healthy, 2 wrong usage, 78 wrong configuration,
130 interrupted. An error is one line on standard error.
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from chat_gateway.chat import GatewayError
from chat_gateway.cli.chat import chat
from chat_gateway.cli.demo import demo
from chat_gateway.cli.ext_proc import ext_proc
from chat_gateway.cli.health import health
from chat_gateway.cli.serve import serve
from guard_service.moderation import ConfigurationError

NO_ANSWER = 1
WRONG_CONFIGURATION = 78
INTERRUPTED = 130

app = typer.Typer(
    name="chat-gateway",
    help="Chat with a language model, judged by Llama Guard before and while it answers.\n\n"
    "'demo' starts a guard and a gateway on the embedded models and shows both at work; 'serve' "
    "puts a gateway in front of your own model; 'ext-proc' does its work for an Envoy; 'chat' "
    "talks with a running gateway.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.command()(ext_proc)
app.command()(chat)
app.command()(demo)
app.command()(health)


def main() -> None:
    """Run the command line and end the process with its exit status."""
    try:
        app()
    except ConfigurationError as error:
        _fail(str(error), WRONG_CONFIGURATION)
    except GatewayError as error:
        _fail(str(error), NO_ANSWER)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)


def _fail(message: str, status: int) -> None:
    typer.echo(f"chat-gateway: {message}", err=True)
    sys.exit(status)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - the callback's fixed shape
    if wanted:
        typer.echo(_version())
        raise typer.Exit


def _version() -> str:
    try:
        return version("guard-service")
    except PackageNotFoundError:
        return "not installed"


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass
