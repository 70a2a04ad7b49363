"""Settings come from flags, environment and file, and every mistake is one line."""

from pathlib import Path

import pytest

from chat_gateway.settings import ExtProcSettings, GatewaySettings, load, load_ext_proc
from chat_gateway.settings.ext_proc import ext_proc_references, own_references
from guard_service.configuration.reference import references, with_fresh_table
from guard_service.moderation import ConfigurationError

ROOT = Path(__file__).parents[2]
KEY = "not-to-be-seen-by-anyone"
UPSTREAM = {"generator": "openai", "upstream_url": "http://x/v1", "upstream_models": "m"}


def refusal(flags: dict[str, object] | None = None) -> str:
    with pytest.raises(ConfigurationError) as refused:
        load(flags)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_the_defaults_are_a_local_gateway_on_the_embedded_model():
    settings = load()

    assert (settings.host, settings.port, settings.grpc_port, settings.metrics_port) == (
        "127.0.0.1",
        8080,
        50_052,
        9465,
    )
    assert (settings.generator, settings.guard) == ("embedded", "127.0.0.1:50051")


def test_flags_win_over_the_environment_and_the_environment_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "gateway.yaml"
    file.write_text("port: 1\nmax_messages: 1\nmax_tokens: 1\n")
    monkeypatch.setenv("GATEWAY_PORT", "2")
    monkeypatch.setenv("GATEWAY_MAX_MESSAGES", "2")

    settings = load({"config": str(file), "port": "3"})

    assert (settings.port, settings.max_messages, settings.max_tokens) == (3, 2, 1)


@pytest.mark.parametrize("endpoint", ["host", "ftp://host:1", "http://a:b@host", "a b:1", ":1"])
def test_a_collector_needs_an_address(endpoint: str):
    assert "allowed: host:port, or an http or https URL" in refusal({"otlp_endpoint": endpoint})


@pytest.mark.parametrize("endpoint", ["host:4317", "[::1]:4317", "https://host", "http://host:1/"])
def test_a_collector_may_be_named_like_this(endpoint: str):
    assert load({"otlp_endpoint": endpoint}).otlp_endpoint == endpoint


def test_an_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GATEWAY_MAX_MESAGES", "5")

    assert "GATEWAY_MAX_MESAGES" in refusal()


def test_an_unknown_name_in_the_file_is_refused(tmp_path: Path):
    file = tmp_path / "gateway.yaml"
    file.write_text("max_mesages: 5\n")

    assert "max_mesages" in refusal({"config": str(file)})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("port", "70000", "0..65535"),
        ("generator", "magic", "embedded, openai, transformers"),
        ("max_messages", "none", "1..100000"),
        ("device", "tpu", "cuda"),
        ("request_timeout_seconds", "0", "above 0"),
    ],
)
def test_a_value_outside_its_range_is_refused_with_what_is_allowed(
    name: str, value: str, allowed: str
):
    message = refusal({name: value})

    assert message.startswith("--" + name.replace("_", "-"))
    assert allowed in message


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GATEWAY_UPSTREAM_MODELS", "one, two")

    settings = load({"generator": "openai", "upstream_url": "http://localhost:8000/v1"})

    assert settings.upstream_models == ("one", "two")


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        ({"generator": "openai"}, "GATEWAY_UPSTREAM_URL"),
        ({"generator": "openai", "upstream_url": "http://x/v1"}, "GATEWAY_UPSTREAM_MODELS"),
        ({"generator": "transformers"}, "GATEWAY_MODEL"),
        ({"generator": "transformers", "model": "some/model"}, "GATEWAY_REVISION"),
        ({"generator": "transformers", "model": "./nowhere/at/all"}, "GATEWAY_MODEL"),
        ({"model": "some/model"}, "GATEWAY_MODEL"),
        ({"generator": "transformers", "upstream_url": "http://x/v1"}, "GATEWAY_UPSTREAM_URL"),
        ({"upstream_connect_seconds": "5"}, "GATEWAY_UPSTREAM_CONNECT_SECONDS"),
        ({**UPSTREAM, "device": "cuda"}, "GATEWAY_DEVICE"),
        ({**UPSTREAM, "max_waiting": "0"}, "GATEWAY_MAX_WAITING"),
        ({"audit_file": "audit.jsonl"}, "GATEWAY_AUDIT_KEY"),
        ({"audit_required": "true"}, "GATEWAY_AUDIT_FILE"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(flags: dict[str, object], missing: str):
    assert missing in refusal(flags)


def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("GATEWAY_AUDIT_KEY", KEY)
    monkeypatch.setenv("GATEWAY_UPSTREAM_API_KEY", KEY)

    settings = load({**UPSTREAM, "audit_file": str(tmp_path / "audit.jsonl")})

    assert KEY not in repr(settings) + str(settings)
    monkeypatch.setenv("GATEWAY_AUDIT_KEY", "short-key")
    assert "short-key" not in refusal(UPSTREAM)


def test_a_secret_in_a_broken_file_is_not_quoted(tmp_path: Path):
    file = tmp_path / "gateway.yaml"
    file.write_text(f"upstream_api_key: {KEY}: broken\n")

    assert KEY not in refusal({"config": str(file)})


def test_secrets_are_the_ones_we_know():
    assert {each.name for each in references(GatewaySettings) if each.is_secret} == {
        "upstream_api_key",
        "audit_key",
    }


def test_the_page_of_settings_is_fresh():
    page = (ROOT / "docs" / "gateway-settings.md").read_text(encoding="utf-8")

    assert with_fresh_table(page, references(GatewaySettings)) == page


def test_the_page_of_the_external_processor_is_fresh():
    page = (ROOT / "docs" / "ext-proc.md").read_text(encoding="utf-8")

    assert with_fresh_table(page, own_references()) == page


def test_an_external_processor_shares_the_settings_and_not_the_ports(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("GATEWAY_GUARD", "guard:50051")
    monkeypatch.setenv("GATEWAY_EXT_PROC_PASS_PATHS", "/v1/models, /health")
    monkeypatch.setenv("GATEWAY_PORT", "8081")
    settings = load_ext_proc()

    assert settings.guard == load().guard == "guard:50051"
    assert settings.ext_proc_pass_paths == ("/v1/models", "/health")
    assert (settings.ext_proc_port, settings.metrics_port) == (50_053, 9466)
    assert not {"port", "generator", "container_contract"} & {
        each.name for each in ext_proc_references()
    }


def test_every_setting_is_documented():
    for each in references(ExtProcSettings):
        assert each.description.endswith("."), each.name
