"""The service's parts put together and running, without the wire."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from guard_service.batcher import Batcher
from guard_service.engine.loading import ModelSpec, load_engine
from guard_service.engine.protocol import Engine
from guard_service.limits import Limits
from guard_service.moderator import Moderator
from guard_service.observer import NullObserver
from guard_service.policy import Policy, default_policy
from guard_service.prompt_formats import FORMATS

PATIENT = Limits(max_wait_seconds=600.0)
"""No test may fail because the machine is busy."""


def loaded_engine(
    folder: Path,
    adapter: Path | None = None,
    *,
    prompt_format: str = "llama-guard-2",
    num_threads: int = 0,
) -> Engine:
    """A real engine in fp32 on this machine's processor."""
    spec = ModelSpec(
        model=str(folder), adapter=adapter, device="cpu", dtype="float32", num_threads=num_threads
    )
    return load_engine(spec, FORMATS[prompt_format], NullObserver())


@asynccontextmanager
async def running_moderator(
    engine: Engine,
    *,
    policy: Policy | None = None,
    limits: Limits = PATIENT,
    max_batch_tokens: int = 1024,
) -> AsyncIterator[Moderator]:
    """A moderator over a running batcher; by default with the policy of the engine's format."""
    policy = policy or default_policy(engine.info.prompt_format)
    observer = NullObserver()
    batcher = Batcher(
        engine,
        max_batch_tokens=max_batch_tokens,
        max_queue_items=100_000,
        max_queue_tokens=100_000_000,
        observer=observer,
    )
    running = asyncio.create_task(batcher.run())
    try:
        yield Moderator(
            engine=engine,
            prompt_format=FORMATS[engine.info.prompt_format],
            policies={policy.id: policy},
            default_policy_id=policy.id,
            batcher=batcher,
            limits=limits,
            observer=observer,
        )
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
