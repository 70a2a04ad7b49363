"""A chat as one OpenAI chat completion."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from chat_gateway.chat import (
    Blocked,
    Channel,
    ChatEvent,
    ChoiceFinished,
    FinishReason,
    GeneratorFailed,
    TextDelta,
    TokenUsage,
    ToolCallDelta,
)
from chat_gateway.http_api.chat_heading import NO_END, Heading, usage_reply
from chat_gateway.http_api.chat_reply import (
    AnsweredToolCall,
    AnswerMessage,
    CalledFunction,
    ChatCompletion,
    Choice,
)
from chat_gateway.http_api.moderation_report import ModerationReport


@dataclass(slots=True)
class _Answer:
    """One choice as it grows."""

    texts: dict[Channel, str] = field(default_factory=dict)
    calls: dict[int, AnsweredToolCall] = field(default_factory=dict)
    reason: FinishReason | None = None

    def add_call(self, event: ToolCallDelta) -> None:
        if event.index not in self.calls:
            function = CalledFunction(name=event.name, arguments=event.arguments)
            self.calls[event.index] = AnsweredToolCall(
                id=event.id, type="function", function=function
            )
        else:
            self.calls[event.index].function.arguments += event.arguments

    def block(self, refusal: str) -> None:
        """Put the refusal in the place of everything; nothing of it has been sent."""
        self.texts = {Channel.CONTENT: refusal, Channel.REFUSAL: refusal}
        self.calls.clear()
        self.reason = FinishReason.CONTENT_FILTER

    def message(self) -> AnswerMessage:
        message = AnswerMessage(
            role="assistant",
            content=self.texts.get(Channel.CONTENT),
            refusal=self.texts.get(Channel.REFUSAL),
        )
        if Channel.REASONING in self.texts:
            message.reasoning_content = self.texts[Channel.REASONING]
        if self.calls:
            message.tool_calls = [self.calls[index] for index in sorted(self.calls)]
        return message


class WholeChat:
    """Gathers the events of one chat."""

    def __init__(self, heading: Heading) -> None:
        self._heading = heading
        self.report = ModerationReport(silent=heading.silent)
        self._answers = [_Answer() for _ in range(heading.num_choices)]
        self._usage: TokenUsage | None = None

    async def completion(self, events: AsyncIterator[ChatEvent]) -> ChatCompletion:
        """The answer once all of it is there; errors are raised."""
        async for event in events:
            self._add(event)
        heading = self._heading
        completion = ChatCompletion(
            id=heading.id,
            object="chat.completion",
            created=heading.created,
            model=heading.model,
            choices=[self._choice(index) for index in range(heading.num_choices)],
        )
        if self._usage is not None:
            completion.usage = usage_reply(self._usage)
        if heading.with_moderation or self.report.unjudged:
            completion.moderation = self.report.moderation()
        return completion

    def _add(self, event: ChatEvent) -> None:
        self.report.note(event)
        match event:
            case TextDelta(choice, text, channel):
                texts = self._answers[choice].texts
                texts[channel] = texts.get(channel, "") + text
            case ToolCallDelta(choice):
                self._answers[choice].add_call(event)
            case ChoiceFinished(choice, reason):
                self._answers[choice].reason = self._answers[choice].reason or reason
            case Blocked(_, choice, refusal):
                for answer in self._answers if choice is None else [self._answers[choice]]:
                    answer.block(refusal)
            case TokenUsage():
                self._usage = event

    def _choice(self, index: int) -> Choice:
        reason = self._answers[index].reason
        if reason is None:
            raise GeneratorFailed(NO_END)
        return Choice(
            index=index,
            message=self._answers[index].message(),
            logprobs=None,
            finish_reason=reason,
        )
