"""Policies that make no sense are refused; the defaults are the careful ones."""

import pytest

from chat_gateway.policy import Checkpoints, GatewayPolicy, Mode
from guard_service.moderation import ConfigurationError


def test_the_default_releases_nothing_unjudged_and_opens_nothing():
    policy = GatewayPolicy()

    assert policy.mode is Mode.STRICT
    assert policy.fail_open == frozenset()
    assert not policy.parallel_prompt_check
    assert not policy.release_after_hold


def test_only_annotating_and_shadowing_never_block_and_only_a_shadow_is_silent():
    assert [mode for mode in Mode if not mode.blocks] == [Mode.ANNOTATE, Mode.SHADOW]
    assert [mode for mode in Mode if mode.is_silent] == [Mode.SHADOW]


@pytest.mark.parametrize(
    "settings",
    [
        {"first_characters": 0},
        {"first_characters": 200, "every_characters": 100},
        {"every_characters": 1000, "max_every_characters": 500},
        {"every_seconds": 0.0},
        {"every_seconds": float("nan")},
    ],
)
def test_checkpoints_out_of_order_are_refused(settings):
    with pytest.raises(ConfigurationError, match="checkpoints"):
        Checkpoints(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"hold_from": 0.0},
        {"hold_from": 1.0},
        {"hold_from": float("nan")},
        {"max_hold_seconds": 0.0},
        {"max_hold_characters": 0},
    ],
)
def test_a_grey_band_without_bounds_is_refused(settings):
    with pytest.raises(ConfigurationError, match="hold"):
        GatewayPolicy(**settings)
