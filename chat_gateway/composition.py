"""Where the parts are put together: settings in, a running gateway's parts out."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp

from chat_gateway.audit import AuditTrail
from chat_gateway.decision_log import DecisionLog
from chat_gateway.generators.protocol import Generator
from chat_gateway.grpc_server.interceptor import OWN
from chat_gateway.grpc_server.options import GrpcOptions
from chat_gateway.grpc_server.server import ChatServer
from chat_gateway.grpc_server.servicer import ChatServicer
from chat_gateway.guard import Guard
from chat_gateway.http_api.app import build_app
from chat_gateway.http_api.limits import HttpLimits
from chat_gateway.http_api.platform_paths import CHAT_PATH, PREDICT_PATH, PlatformPaths
from chat_gateway.metrics import Metrics
from chat_gateway.observers import Observers
from chat_gateway.pipeline import ChatPipeline, Pipeline
from chat_gateway.places import Places
from chat_gateway.policy import GatewayPolicy
from chat_gateway.policy_file import load_policies
from chat_gateway.settings import GatewaySettings
from chat_gateway.text_moderation import TextModeration
from chat_gateway.token_limit import TokenLimit
from chat_gateway.tracing.off import NO_TRACING, NoTracing
from guard_service import embedded
from guard_service.client import GuardClient
from guard_service.moderation import ConfigurationError

EMBEDDED_NAME = "SmolLM2-135M-Instruct"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """The policies by id, which one holds when none is named, and which ones may be named."""

    by_id: Mapping[str, GatewayPolicy]
    default_id: str
    selectable: frozenset[str]

    @property
    def default(self) -> GatewayPolicy:
        """The policy of a request that names none."""
        return self.by_id[self.default_id]

    @property
    def offered(self) -> dict[str, GatewayPolicy]:
        """The policies a request may name."""
        return {
            policy_id: policy
            for policy_id, policy in self.by_id.items()
            if policy_id == self.default_id or policy_id in self.selectable
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """Everything that answers requests, and nothing of how it is started and ended."""

    pipeline: Pipeline
    moderation: TextModeration
    places: Places
    generator: Generator
    guard: Guard
    policies: Policies
    tracing: NoTracing = NO_TRACING


def read_policies(settings: GatewaySettings) -> Policies:
    """The policies of the settings' file, or the one built-in policy.

    Raises:
        ConfigurationError: the file is wrong, or an id names no policy.
    """
    built_in = GatewayPolicy()
    by_id = load_policies(settings.policies) if settings.policies else {built_in.id: built_in}
    default_id = settings.default_policy or next(iter(by_id))
    for name, policy_id in (
        ("DEFAULT_POLICY", default_id),
        *(("SELECTABLE_POLICIES", each) for each in settings.selectable_policies),
    ):
        if policy_id not in by_id:
            raise ConfigurationError(
                f"GATEWAY_{name}: '{policy_id}' is not allowed; allowed: {', '.join(by_id)}"
            )
    return Policies(
        by_id=by_id, default_id=default_id, selectable=frozenset(settings.selectable_policies)
    )


@contextmanager
def audit_trail(
    settings: GatewaySettings, metrics: Metrics, tracing: NoTracing = NO_TRACING
) -> Iterator[AuditTrail | None]:
    """The audit trail while the context lasts, where the settings ask for one.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    if settings.audit_file is None or settings.audit_key is None:
        yield None
        return
    with AuditTrail(
        settings.audit_file,
        settings.audit_key.get_secret_value().encode(),
        max_waiting=settings.audit_queue_records,
        metrics=metrics,
        trace_id=tracing.trace_id,
    ) as trail:
        yield trail


@asynccontextmanager
async def composed(
    settings: GatewaySettings,
    policies: Policies,
    generator: Generator,
    metrics: Metrics,
    trail: AuditTrail | None,
    *,
    tracing: NoTracing = NO_TRACING,
) -> AsyncIterator[Gateway]:
    """The gateway's parts, connected to the guard; on leaving, guard and generator are closed."""
    traced = tracing.generator(generator, settings.upstream_url)
    limited = TokenLimit(traced, settings.max_tokens)
    records = [trail] if trail else []
    observer = Observers([metrics, DecisionLog(), *records, *tracing.chat_observers()])
    try:
        async with GuardClient(settings.guard, metadata=tracing.headers) as client:
            guard = tracing.guard(client)
            recorder = trail if settings.audit_required else None
            pipeline = ChatPipeline(guard, limited, observer, recorder)
            yield Gateway(
                pipeline=tracing.pipeline(pipeline),
                moderation=TextModeration(guard, observer, recorder),
                places=Places(settings.max_concurrent_requests),
                generator=limited,
                guard=guard,
                policies=policies,
                tracing=tracing,
            )
    finally:
        await generator.close()


def http_app(gateway: Gateway, settings: GatewaySettings) -> ASGIApp:
    """The HTTP API over the gateway."""
    contract = settings.contract
    return build_app(
        gateway.pipeline,
        gateway.moderation,
        gateway.generator,
        gateway.guard,
        policies=gateway.policies.by_id,
        default_policy_id=gateway.policies.default_id,
        selectable=gateway.policies.selectable,
        limits=HttpLimits(
            max_body_bytes=settings.max_body_bytes,
            max_messages=settings.max_messages,
            max_chat_seconds=settings.request_timeout_seconds,
        ),
        places=gateway.places,
        with_predictions=contract is not None and contract.wraps_instances,
    )


def with_platform_paths(app: ASGIApp, settings: GatewaySettings) -> ASGIApp:
    """The whole HTTP server's application, by the names a hosting platform has for its paths."""
    contract = settings.contract
    if contract is None:
        return app
    return PlatformPaths(
        app,
        health_path=contract.health_path,
        invoke_path=contract.invoke_path,
        target=PREDICT_PATH if contract.wraps_instances else CHAT_PATH,
    )


def grpc_server(gateway: Gateway, settings: GatewaySettings, metrics: Metrics) -> ChatServer | None:
    """The gRPC API over the gateway, unless it is switched off."""
    if settings.grpc_port is None:
        return None
    options = GrpcOptions(
        host=settings.host,
        port=settings.grpc_port,
        reflection=settings.reflection,
        max_message_bytes=settings.max_body_bytes,
        max_messages=settings.max_messages,
        max_chat_seconds=settings.request_timeout_seconds,
    )
    servicer = ChatServicer(
        gateway.pipeline,
        gateway.generator,
        gateway.policies.offered,
        gateway.policies.default,
        options,
        places=gateway.places,
    )
    return ChatServer(servicer, options, metrics, gateway.tracing.interceptors(OWN))


def load_generator(settings: GatewaySettings, tracing: NoTracing = NO_TRACING) -> Generator:
    """The generator of the settings; a model in this process takes seconds to load.

    Raises:
        ConfigurationError: the model cannot be fetched or loaded, or the upstream is misnamed.
    """
    if settings.generator == "openai":
        return _upstream(settings, tracing)
    return _in_process(settings)


def _upstream(settings: GatewaySettings, tracing: NoTracing) -> Generator:
    from chat_gateway.generators.openai import OpenAIGenerator  # noqa: PLC0415
    from chat_gateway.generators.upstream import Patience  # noqa: PLC0415

    key = settings.upstream_api_key
    return OpenAIGenerator(
        base_url=settings.upstream_url or "",
        models=settings.upstream_models,
        api_key=key.get_secret_value() if key else None,
        ca_file=settings.upstream_ca_file,
        patience=Patience(
            connect_seconds=settings.upstream_connect_seconds,
            first_byte_seconds=settings.upstream_first_byte_seconds,
            between_chunks_seconds=settings.upstream_between_chunks_seconds,
        ),
        max_connections=settings.max_concurrent_requests,
        headers=tracing.headers,
    )


def _in_process(settings: GatewaySettings) -> Generator:
    try:
        # Importing torch takes seconds, and a gateway before another server never needs it.
        from chat_gateway.generators import transformers  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed: to run a model in this process, install the extra "
            "'model' (pip install 'guard-service[model]')"
        ) from error
    model, name = settings.model, settings.model_name
    if model is None:
        model, name = str(embedded.ensure(settings.cache_dir)), EMBEDDED_NAME
    spec = transformers.GeneratorSpec(
        model=model,
        name=name,
        revision=settings.revision,
        draft_model=settings.draft_model,
        dtype=settings.dtype,
        device=settings.device,
        quantisation=settings.quantisation,
        compile=settings.compile,
        max_context_tokens=settings.max_context_tokens,
        default_answer_tokens=settings.default_answer_tokens,
        max_waiting=settings.max_waiting,
        num_threads=settings.num_threads,
    )
    return transformers.load_generator(spec)
