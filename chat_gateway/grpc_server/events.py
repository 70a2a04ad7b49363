"""The pipeline's events on the wire."""

from chat_gateway.chat import (
    Blocked,
    Channel,
    ChatEvent,
    ChoiceFinished,
    FinishReason,
    Judged,
    TextDelta,
    TokenUsage,
    ToolCallDelta,
    Unjudged,
)
from chat_gateway.v1 import chat_pb2
from guard_service.moderation import Phase
from guard_service.v1 import guard_pb2
from guard_service.wire.verdict import verdict_to_wire

PHASES = {Phase.PROMPT: guard_pb2.PHASE_PROMPT, Phase.RESPONSE: guard_pb2.PHASE_RESPONSE}
CHANNELS = {
    Channel.CONTENT: chat_pb2.CHANNEL_CONTENT,
    Channel.REASONING: chat_pb2.CHANNEL_REASONING,
    Channel.REFUSAL: chat_pb2.CHANNEL_REFUSAL,
}
REASONS = {
    FinishReason.STOP: chat_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: chat_pb2.FINISH_REASON_LENGTH,
    FinishReason.TOOL_CALLS: chat_pb2.FINISH_REASON_TOOL_CALLS,
    FinishReason.CONTENT_FILTER: chat_pb2.FINISH_REASON_CONTENT_FILTER,
}


def event_to_wire(event: ChatEvent) -> chat_pb2.ChatStreamResponse:
    """One event as the contract carries it."""
    wire = chat_pb2.ChatStreamResponse()
    match event:
        case TextDelta():
            wire.text.CopyFrom(_text_to_wire(event))
        case ToolCallDelta():
            wire.tool_call.CopyFrom(_tool_call_to_wire(event))
        case ChoiceFinished(choice, reason):
            wire.finished.choice, wire.finished.reason = choice, REASONS[reason]
        case TokenUsage():
            wire.usage.CopyFrom(usage_to_wire(event))
        case Judged():
            wire.judged.CopyFrom(judged_to_wire(event))
        case Unjudged():
            wire.unjudged.CopyFrom(unjudged_to_wire(event))
        case Blocked():
            wire.refusal.CopyFrom(refusal_to_wire(event))
    return wire


def usage_to_wire(usage: TokenUsage) -> chat_pb2.TokenUsage:
    """The generator's count."""
    return chat_pb2.TokenUsage(
        prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens
    )


def judged_to_wire(judged: Judged) -> chat_pb2.Judged:
    """A verdict and what it covers."""
    return chat_pb2.Judged(
        phase=PHASES[judged.phase],
        choice=judged.choice,
        num_characters=judged.num_characters,
        final=judged.final,
        verdict=verdict_to_wire(judged.verdict),
    )


def unjudged_to_wire(unjudged: Unjudged) -> chat_pb2.Unjudged:
    """A text that passed without a verdict."""
    return chat_pb2.Unjudged(
        phase=PHASES[unjudged.phase], choice=unjudged.choice, reason=unjudged.reason
    )


def refusal_to_wire(blocked: Blocked) -> chat_pb2.Refusal:
    """What stands in place of a blocked text, and why."""
    refusal = chat_pb2.Refusal(
        phase=PHASES[blocked.phase], choice=blocked.choice, message=blocked.refusal
    )
    if blocked.verdict is None:
        refusal.without_verdict = True
        return refusal
    verdict = verdict_to_wire(blocked.verdict)
    refusal.unsafe_probability = verdict.unsafe_probability
    refusal.categories.extend(verdict.categories)
    refusal.guard_model.CopyFrom(verdict.model)
    refusal.guard_policy.CopyFrom(verdict.policy)
    return refusal


def _text_to_wire(event: TextDelta) -> chat_pb2.TextDelta:
    return chat_pb2.TextDelta(choice=event.choice, text=event.text, channel=CHANNELS[event.channel])


def _tool_call_to_wire(event: ToolCallDelta) -> chat_pb2.ToolCallDelta:
    return chat_pb2.ToolCallDelta(
        choice=event.choice,
        index=event.index,
        id=event.id or "",
        name=event.name or "",
        arguments=event.arguments,
    )
