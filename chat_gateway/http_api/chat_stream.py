"""A chat as OpenAI's server-sent events, with an ending clients survive whatever happens."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from pydantic import BaseModel

from chat_gateway.chat import (
    Blocked,
    ChatEvent,
    ChoiceFinished,
    FinishReason,
    GeneratorFailed,
    Held,
    TextDelta,
    TokenUsage,
    ToolCallDelta,
)
from chat_gateway.http_api.chat_heading import NO_END, Heading, usage_reply
from chat_gateway.http_api.chat_reply import (
    AnsweredToolCall,
    CalledFunction,
    ChatCompletionChunk,
    ChunkChoice,
    Delta,
)
from chat_gateway.http_api.errors import error_body, log_fault
from chat_gateway.http_api.guard_detail import GuardDetails, held_detail
from chat_gateway.http_api.moderation_report import ModerationReport

DONE = b"data: [DONE]\n\n"

CHANNEL_FIELDS = {"content": "content", "reasoning": "reasoning_content", "refusal": "refusal"}
"""The field of a message that carries the text of a channel."""


class ChatStream:
    """Writes the events of one chat as lines; knows what each choice has been sent."""

    def __init__(self, heading: Heading) -> None:
        self._heading = heading
        self.report = ModerationReport(silent=heading.silent)
        self._details = GuardDetails()
        self._usage: TokenUsage | None = None
        self._begun: set[int] = set()
        self._with_content: set[int] = set()
        self._open = set(range(heading.num_choices))

    async def lines(self, events: AsyncIterator[ChatEvent]) -> AsyncGenerator[bytes, None]:
        """The stream; until its first line, errors are raised and can still become a status.

        From then on they become an `error` event, which OpenAI's clients raise.
        """
        started = False
        try:
            async for event in events:
                for chunk in self._chunks(event):
                    yield _line(chunk)
                    started = True
            self._require_ends()
        except Exception as error:
            if not started:
                raise
            log_fault(error)
            yield _line(error_body(error))
            return
        for chunk in self._closing():
            yield _line(chunk)
        yield DONE

    def _chunks(self, event: ChatEvent) -> Iterator[ChatCompletionChunk]:
        self.report.note(event)
        detail = self._details.of(event)
        if detail is not None and self._heading.with_detail:
            yield self._chunk(guard=detail)
        match event:
            case TextDelta(choice, text, channel):
                if channel == "content":
                    self._with_content.add(choice)
                yield self._piece(choice, Delta.model_validate({CHANNEL_FIELDS[channel]: text}))
            case ToolCallDelta(choice):
                yield self._piece(choice, Delta(tool_calls=[_tool_call(event)]))
            case ChoiceFinished(choice, reason) if choice in self._open:
                yield self._finish(choice, reason)
            case Blocked(_, choice, refusal):
                for each in sorted(self._open if choice is None else self._open & {choice}):
                    yield self._piece(each, self._refusal(each, refusal))
                    yield self._finish(each, FinishReason.CONTENT_FILTER)
            case TokenUsage():
                self._usage = event
            case Held():
                yield self._chunk(held=held_detail(event))

    def _refusal(self, choice: int, refusal: str) -> Delta:
        """The refusal, also as content where the client would otherwise show nothing."""
        if choice in self._with_content:
            return Delta(refusal=refusal)
        return Delta(content=refusal, refusal=refusal)

    def _piece(self, choice: int, delta: Delta) -> ChatCompletionChunk:
        if choice not in self._begun:
            self._begun.add(choice)
            delta = delta.model_copy(update={"role": "assistant"})
        return self._chunk(ChunkChoice(index=choice, delta=delta, finish_reason=None))

    def _finish(self, choice: int, reason: FinishReason) -> ChatCompletionChunk:
        self._open.discard(choice)
        return self._chunk(ChunkChoice(index=choice, delta=Delta(), finish_reason=reason))

    def _require_ends(self) -> None:
        if self._open:
            raise GeneratorFailed(NO_END)

    def _closing(self) -> Iterator[ChatCompletionChunk]:
        if self._heading.with_moderation or self.report.unjudged:
            yield self._chunk(moderation=self.report.moderation())
        if self._heading.with_usage and self._usage is not None:
            yield self._chunk(usage=usage_reply(self._usage))

    def _chunk(self, *choices: ChunkChoice, **parts: Any) -> ChatCompletionChunk:
        if self._heading.with_usage:
            parts.setdefault("usage", None)
        return ChatCompletionChunk(
            id=self._heading.id,
            object="chat.completion.chunk",
            created=self._heading.created,
            model=self._heading.model,
            choices=list(choices),
            **parts,
        )


def _tool_call(event: ToolCallDelta) -> AnsweredToolCall:
    if event.name is None:
        return AnsweredToolCall(
            index=event.index, function=CalledFunction(arguments=event.arguments)
        )
    return AnsweredToolCall(
        index=event.index,
        id=event.id,
        type="function",
        function=CalledFunction(name=event.name, arguments=event.arguments),
    )


def _line(data: BaseModel) -> bytes:
    return b"data: " + data.model_dump_json(exclude_unset=True).encode() + b"\n\n"
