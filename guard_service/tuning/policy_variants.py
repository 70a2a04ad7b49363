"""Other policies made from one, so that a guard learns to read the policy it is given."""

import random
from collections.abc import Iterator
from dataclasses import replace

from guard_service.policy import Policy, PolicyCategory

MIN_CATEGORIES = 4
DESCRIBED_SHARE = 0.15
REWORDED_SHARE = 0.3

_OTHER_NAMES = {
    "Violent Crimes": ("Violence", "Terrorism, Murder and Assault", "Harm to People or Animals"),
    "Non-Violent Crimes": ("Fraud, Theft and Hacking", "Illegal Activities", "Property Crimes"),
    "Sex Crimes": ("Sex-Related Crimes", "Sexual Violence", "Trafficking and Sexual Assault"),
    "Child Exploitation": ("Child Sexual Exploitation", "Harm to Children", "Child Abuse"),
    "Specialized Advice": ("Unqualified Advice", "Medical, Legal and Financial Advice"),
    "Privacy": ("Personal Data", "Privacy Violations", "Doxxing and Surveillance"),
    "Intellectual Property": ("Copyright", "Copyright Violations", "Piracy"),
    "Indiscriminate Weapons": ("Weapons of Mass Destruction", "Bombs and Chemical Weapons"),
    "Hate": ("Hate Speech", "Discrimination", "Hateful Content"),
    "Self-Harm": ("Suicide & Self-Harm", "Suicide", "Self-Injury and Eating Disorders"),
    "Sexual Content": ("Erotica", "Adult Content", "Pornography"),
}


def policy_variants(policy: Policy, random_: random.Random) -> Iterator[Policy]:
    """Variants without end: shuffled, most with categories left out, some reworded or described."""
    while True:
        categories = list(policy.categories)
        random_.shuffle(categories)
        least = min(MIN_CATEGORIES, len(categories))
        kept = categories[: random_.randint(least, len(categories))]
        yield replace(
            policy,
            categories=tuple(_reworded(each, random_) for each in kept),
            descriptions_in_prompt=all(each.description for each in kept)
            and random_.random() < DESCRIBED_SHARE,
        )


def _reworded(category: PolicyCategory, random_: random.Random) -> PolicyCategory:
    others = _OTHER_NAMES.get(category.name)
    if others is None or random_.random() >= REWORDED_SHARE:
        return category
    return replace(category, name=random_.choice(others))
