"""Where the parts are put together: settings in, a moderator out."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from guard_service import embedded
from guard_service.batcher import Batcher
from guard_service.engine.protocol import Engine
from guard_service.moderation import ConfigurationError
from guard_service.moderator import Moderator
from guard_service.observer import NullObserver, Observer
from guard_service.policy import Policy, default_policy, hazards_of, load_policy
from guard_service.prompt_formats import FORMATS
from guard_service.settings import ModelSettings, ServeSettings


def read_policies(settings: ModelSettings) -> dict[str, Policy]:
    """The format's own policy and those of the files, by id; the default one comes first.

    Raises:
        ConfigurationError: a file is wrong, two policies share an id, or the default is unknown.
    """
    own = default_policy(settings.format)
    policies = {own.id: own}
    for path in settings.policies:
        policy = load_policy(path)
        if hazards_of(policy.prompt_format) != own.prompt_format:
            raise ConfigurationError(
                f"{path}: is written for {policy.prompt_format}, the model speaks {settings.format}"
            )
        if policy.id in policies:
            raise ConfigurationError(f"{path}: there is already a policy with the id '{policy.id}'")
        policies[policy.id] = policy
    default = settings.default_policy or own.id
    if default not in policies:
        raise ConfigurationError(
            f"GUARD_DEFAULT_POLICY: '{default}' is not allowed; allowed: {', '.join(policies)}"
        )
    return {default: policies.pop(default), **policies}


def load_engine(settings: ModelSettings, observer: Observer) -> Engine:
    """The model of the settings, or the embedded one; takes seconds, or longer if it is fetched.

    Raises:
        ConfigurationError: the model cannot be fetched or loaded.
    """
    try:
        # Importing torch takes seconds, and clients of a remote server never need it.
        from guard_service.engine import loading  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed: to run a model in this process, install the extra "
            "'model' (pip install 'guard-service[model]')"
        ) from error
    model, name, adapter = _weights(settings)
    spec = loading.ModelSpec(
        model=model,
        name=name,
        adapter=adapter,
        revision=settings.revision,
        dtype=settings.dtype,
        device=settings.device,
        quantisation=settings.quantisation,
        max_context_tokens=_max_context_tokens(settings),
        prefix_cache_bytes=settings.prefix_cache_bytes,
        session_cache_bytes=settings.session_cache_bytes,
        num_threads=settings.num_threads,
    )
    return loading.load_engine(spec, FORMATS[settings.format], observer)


def compose(
    engine: Engine, settings: ServeSettings, policies: Mapping[str, Policy], observer: Observer
) -> tuple[Moderator, Batcher]:
    """A moderator by `policies`, the first being the default, and the batcher it needs running."""
    batcher = Batcher(
        engine,
        max_batch_tokens=settings.max_batch_tokens,
        max_queue_items=settings.max_queue_items,
        max_queue_tokens=settings.max_queue_tokens,
        observer=observer,
    )
    moderator = Moderator(
        engine=engine,
        prompt_format=FORMATS[settings.format],
        policies=policies,
        default_policy_id=next(iter(policies)),
        batcher=batcher,
        limits=settings.limits,
        observer=observer,
    )
    return moderator, batcher


@asynccontextmanager
async def running_moderator(settings: ServeSettings) -> AsyncIterator[Moderator]:
    """A moderator in this process, without a server, until the context ends.

    Raises:
        ConfigurationError: a policy is wrong, or the model cannot be loaded.
    """
    policies = read_policies(settings)
    observer = NullObserver()
    moderator, batcher = compose(load_engine(settings, observer), settings, policies, observer)
    running = asyncio.create_task(batcher.run())
    try:
        yield moderator
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _max_context_tokens(settings: ModelSettings) -> int:
    if settings.model is None:
        return min(settings.max_context_tokens, embedded.MAX_CONTEXT_TOKENS)
    return settings.max_context_tokens


def _weights(settings: ModelSettings) -> tuple[str, str | None, Path | None]:
    """Which model to load, what to call it, and the adapter to put on it."""
    if settings.model is None:
        return str(embedded.ensure(settings.cache_dir)), embedded.MODEL_ID, embedded.ADAPTER
    return settings.model, None, settings.adapter
