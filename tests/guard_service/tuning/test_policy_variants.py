"""A guard learns to read its policy from many: in other orders, narrowed, in other words."""

import random
from itertools import islice

from guard_service.policy import default_policy
from guard_service.tuning.policy_variants import _OTHER_NAMES, MIN_CATEGORIES, policy_variants

POLICY = default_policy("compact")
VARIANTS = list(islice(policy_variants(POLICY, random.Random(1)), 200))


def test_a_variant_is_made_of_the_policys_categories():
    known = {each.code: each for each in POLICY.categories}
    for variant in VARIANTS:
        codes = [each.code for each in variant.categories]
        assert len(set(codes)) == len(codes) >= MIN_CATEGORIES
        for each in variant.categories:
            own = known[each.code]
            assert each.name in (own.name, *_OTHER_NAMES[own.name])
            assert each.description == own.description


def test_variants_differ_in_all_that_a_policy_may_differ_in():
    orders = {tuple(each.code for each in variant.categories) for variant in VARIANTS}
    names = {each.name for variant in VARIANTS for each in variant.categories}

    assert len(orders) > 150
    assert {len(variant.categories) for variant in VARIANTS} == set(range(MIN_CATEGORIES, 12))
    assert names >= {other for others in _OTHER_NAMES.values() for other in others}
    assert {variant.descriptions_in_prompt for variant in VARIANTS} == {True, False}


def test_every_category_of_the_shipped_policy_has_other_names():
    assert {each.name for each in POLICY.categories} == set(_OTHER_NAMES)


def test_the_same_seed_draws_the_same_variants():
    again = list(islice(policy_variants(POLICY, random.Random(1)), 200))

    assert again == VARIANTS
