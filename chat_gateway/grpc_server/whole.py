"""A chat as one reply."""

from chat_gateway.chat import (
    Blocked,
    Channel,
    ChatEvent,
    ChoiceFinished,
    FinishReason,
    GeneratorFailed,
    Judged,
    TextDelta,
    TokenUsage,
    ToolCallDelta,
    Unjudged,
)
from chat_gateway.grpc_server.events import (
    REASONS,
    judged_to_wire,
    refusal_to_wire,
    unjudged_to_wire,
    usage_to_wire,
)
from chat_gateway.v1 import chat_pb2

_FIELDS = {
    Channel.CONTENT: "content",
    Channel.REASONING: "reasoning",
    Channel.REFUSAL: "model_refusal",
}


class WholeChat:
    """Gathers the events of one chat into a reply; a blocked choice loses what it said before."""

    def __init__(self, opened: chat_pb2.ChatOpened, num_choices: int) -> None:
        self._response = chat_pb2.ChatResponse(
            request_id=opened.request_id, model=opened.model, policy_id=opened.policy_id
        )
        self._choices = [chat_pb2.Choice(index=index) for index in range(num_choices)]

    def add(self, event: ChatEvent) -> None:
        """Take the next event in."""
        match event:
            case TextDelta(choice, text, channel):
                answer, name = self._choices[choice], _FIELDS[channel]
                setattr(answer, name, getattr(answer, name) + text)
            case ToolCallDelta(choice):
                _add_call(self._choices[choice], event)
            case ChoiceFinished(choice, reason):
                self._finish(choice, reason)
            case Blocked():
                self._block(event)
            case Judged():
                self._response.judged.append(judged_to_wire(event))
            case Unjudged():
                self._response.unjudged.append(unjudged_to_wire(event))
            case TokenUsage():
                self._response.usage.CopyFrom(usage_to_wire(event))

    def response(self) -> chat_pb2.ChatResponse:
        """The reply, once all events are in.

        Raises:
            GeneratorFailed: A choice has no end.
        """
        if not self._response.HasField("refusal"):
            if not all(choice.finish_reason for choice in self._choices):
                raise GeneratorFailed("the model's answer has no end")
            self._response.choices.extend(self._choices)
        return self._response

    def _finish(self, choice: int, reason: FinishReason) -> None:
        if not self._choices[choice].finish_reason:
            self._choices[choice].finish_reason = REASONS[reason]

    def _block(self, event: Blocked) -> None:
        refusal = refusal_to_wire(event)
        if event.choice is None:
            self._response.refusal.CopyFrom(refusal)
        else:
            self._choices[event.choice] = chat_pb2.Choice(
                index=event.choice,
                finish_reason=chat_pb2.FINISH_REASON_CONTENT_FILTER,
                refusal=refusal,
            )


def _add_call(answer: chat_pb2.Choice, event: ToolCallDelta) -> None:
    while len(answer.tool_calls) <= event.index:
        answer.tool_calls.add()
    call = answer.tool_calls[event.index]
    call.id = call.id or event.id or ""
    call.name = call.name or event.name or ""
    call.arguments += event.arguments
