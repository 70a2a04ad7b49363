"""OpenAI's names for what Llama Guard's categories find."""

from collections.abc import Mapping
from enum import StrEnum

from guard_service.moderation import CategoryScore


class CategoryNames(StrEnum):
    """Whose names a result uses."""

    NATIVE = "native"
    OPENAI = "openai"


_ILLICIT, _VIOLENT = "illicit", "illicit/violent"
_SELF_HARM = ("self-harm", "self-harm/instructions", "self-harm/intent")

OPENAI_KEYS = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    _ILLICIT,
    _VIOLENT,
    *_SELF_HARM,
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
"""Every key a result by OpenAI's names has."""

_BY_HAZARD: Mapping[str, tuple[str, ...]] = {
    "Violent Crimes": ("violence", _VIOLENT),
    "Non-Violent Crimes": (_ILLICIT,),
    "Child Exploitation": ("sexual/minors",),
    "Indiscriminate Weapons": (_VIOLENT,),
    "Hate": ("hate",),
    "Self-Harm": _SELF_HARM,
    "Sexual Content": ("sexual",),
    "Violence and Hate": ("violence", "hate"),
    "Criminal Planning": (_ILLICIT,),
    "Guns and Illegal Weapons": (_VIOLENT,),
    "Regulated or Controlled Substances": (_ILLICIT,),
}
"""By name and not by code, since the same code is another hazard in another Llama Guard."""


def openai_keys(category: CategoryScore) -> tuple[str, ...]:
    """OpenAI's keys that say the same as a category; often none."""
    return _BY_HAZARD.get(category.name, ())
