"""Settings come from flags, the environment and a file; what is not allowed is refused."""

from pathlib import Path

import pytest

from guard_service import embedded
from guard_service.configuration.reference import references, with_fresh_table
from guard_service.moderation import ConfigurationError
from guard_service.settings import ModelSettings, ServeSettings, load
from guard_service.settings import model as model_settings
from guard_service.weights import write_adapter_format

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def written(folder: Path, text: str) -> Path:
    file = folder / "guard.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def refusal(**flags: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(ServeSettings, flags)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_anything_given_the_embedded_model_is_served_on_the_loopback():
    settings = load(ServeSettings)

    assert (settings.model, settings.format) == (None, embedded.PROMPT_FORMAT)
    assert (settings.host, settings.port, settings.metrics_port) == ("127.0.0.1", 50051, 9464)


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_file(tmp_path, monkeypatch):
    file = written(tmp_path, "port: 1\nmetrics_port: 2\nmax_streams: 3\n")
    monkeypatch.setenv("GUARD_PORT", "10")
    monkeypatch.setenv("GUARD_METRICS_PORT", "20")

    settings = load(ServeSettings, {"config": str(file), "port": "100"})

    assert (settings.port, settings.metrics_port, settings.max_streams) == (100, 20, 3)


def test_the_environment_may_name_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("GUARD_CONFIG", str(written(tmp_path, "max_queue_items: 7\n")))

    assert load(ServeSettings).max_queue_items == 7


def test_an_empty_variable_counts_as_not_set(monkeypatch):
    monkeypatch.setenv("GUARD_PORT", "")
    monkeypatch.setenv("GUARD_CONFIG", "")

    assert load(ServeSettings).port == 50051


def test_the_limits_of_a_request_are_settings():
    limits = load(ServeSettings, {"max_messages": 3, "max_wait_seconds": "1.5"}).limits

    assert (limits.max_messages, limits.max_wait_seconds) == (3, 1.5)


def test_the_word_none_switches_the_metrics_port_off():
    assert load(ServeSettings, {"metrics_port": "none"}).metrics_port is None


def test_policies_are_a_list_in_the_file_and_comma_separated_elsewhere(tmp_path):
    file = written(tmp_path, "policies: [a.yaml, b.yaml]\n")

    assert load(ServeSettings, {"config": file}).policies == (Path("a.yaml"), Path("b.yaml"))
    assert load(ServeSettings, {"policies": "a.yaml,b.yaml"}).policies == (
        Path("a.yaml"),
        Path("b.yaml"),
    )


def test_the_model_settings_read_a_file_written_for_the_server(tmp_path):
    file = written(tmp_path, "port: 1\ndtype: bfloat16\n")

    assert load(ModelSettings, {"config": file}).dtype == "bfloat16"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"port": "70000"}, "--port: '70000' is not allowed; allowed: 0..65535"),
        ({"max_wait_seconds": "0"}, "--max-wait-seconds: '0' is not allowed; allowed: above 0, up"),
        ({"lame_duck_seconds": "nan"}, "--lame-duck-seconds: 'nan' is not allowed"),
        ({"device": "tpu"}, "allowed: auto, cpu, cuda, cuda:N, balanced"),
        ({"format": "llama-guard-9"}, "allowed: llama-guard-1, llama-guard-2, llama-guard-3, "),
        ({"reflection": "perhaps"}, "--reflection: 'perhaps' is not allowed; allowed: true, false"),
        ({"trace_sample_ratio": "1.5"}, "--trace-sample-ratio: '1.5' is not allowed; allowed: 0"),
        ({"otlp_endpoint": "host"}, "'host' is not allowed; allowed: host:port, or an http or"),
        ({"otlp_endpoint": "ftp://host:1"}, "--otlp-endpoint: 'ftp://host:1' is not allowed"),
        ({"otlp_endpoint": "http://a:b@host"}, "--otlp-endpoint: 'http://a:b@host' is not"),
        ({"revision": "main"}, "--revision: 'main' is not allowed; allowed: 40 hexadecimal digits"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_what_is(flags, said):
    assert said in refusal(**flags)


def test_a_refusal_names_the_variable_the_value_came_from(monkeypatch):
    monkeypatch.setenv("GUARD_MAX_STREAMS", "-1")

    assert refusal() == "GUARD_MAX_STREAMS: '-1' is not allowed; allowed: 0..100000"


def test_a_refusal_names_the_file_the_value_came_from(tmp_path):
    message = refusal(config=written(tmp_path, "max_streams: many\n"))

    assert message.startswith("max_streams in the settings file: 'many' is not allowed")


def test_an_unknown_variable_with_the_prefix_is_refused(monkeypatch):
    monkeypatch.setenv("GUARD_MAX_STREAM", "1")

    assert "GUARD_MAX_STREAM: there is no such setting" in refusal()


@pytest.mark.parametrize("name", ["prot", "config"])
def test_an_unknown_name_in_the_file_is_refused(tmp_path, name):
    file = written(tmp_path, f"{name}: 1\n")

    assert refusal(config=file) == f"{name} in {file}: there is no such setting"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port: [", "is not valid YAML"),
        ("model: 2026-02-30", "is not valid YAML: a value only looks like a date"),
        ("- port", "must hold settings as 'name: value' lines"),
    ],
)
def test_a_file_that_holds_no_settings_is_refused(tmp_path, text, said):
    assert said in refusal(config=written(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path):
    assert "cannot read the settings file" in refusal(config=tmp_path / "nowhere.yaml")


def test_a_hub_model_needs_a_pinned_revision():
    hub_id = "meta-llama/Meta-Llama-Guard-2-8B"

    assert "GUARD_REVISION is missing" in refusal(model=hub_id)
    assert load(ServeSettings, {"model": hub_id, "revision": "a" * 40}).is_hub_model


def test_a_missing_model_folder_is_refused(tmp_path):
    assert "there is no folder" in refusal(model=str(tmp_path / "nowhere"))


def test_a_folder_needs_no_revision(tmp_path):
    assert not load(ServeSettings, {"model": str(tmp_path)}).is_hub_model


@pytest.mark.parametrize("spoken", ["llama-guard-2", "compact"])
def test_without_a_format_a_model_is_asked_as_llama_guard_2_and_the_embedded_one_in_its_own(
    tmp_path, monkeypatch, spoken
):
    monkeypatch.setattr(model_settings, "EMBEDDED_FORMAT", spoken)

    assert load(ServeSettings, {"model": str(tmp_path)}).format == "llama-guard-2"
    assert load(ServeSettings).format == spoken
    assert load(ServeSettings, {"format": spoken}).format == spoken
    assert f"the embedded model speaks {spoken} only" in refusal(format="llama-guard-1")


def test_a_format_that_is_given_counts_wherever_it_comes_from(tmp_path, monkeypatch):
    model = str(tmp_path)
    file = written(tmp_path, "format: llama-guard-3\n")

    assert load(ServeSettings, {"model": model, "format": "compact"}).format == "compact"
    assert load(ServeSettings, {"model": model, "config": file}).format == "llama-guard-3"
    monkeypatch.setenv("GUARD_FORMAT", "compact")
    assert load(ServeSettings, {"model": model, "config": file}).format == "compact"
    monkeypatch.setenv("GUARD_FORMAT", "")
    assert load(ServeSettings, {"model": model}).format == "llama-guard-2"


def test_an_adapter_is_asked_in_the_format_it_was_tuned_for(tmp_path):
    model = str(tmp_path)
    write_adapter_format(tmp_path, "compact")
    tuned = {"model": model, "adapter": model}

    assert load(ServeSettings, tuned).format == "compact"
    assert load(ServeSettings, {**tuned, "format": "compact"}).format == "compact"
    assert "was tuned for compact, not for llama-guard-2" in refusal(
        **tuned, format="llama-guard-2"
    )


def test_an_adapter_that_names_no_format_we_have_is_refused(tmp_path):
    model = str(tmp_path)
    tuned = {"model": model, "adapter": model}
    assert load(ServeSettings, tuned).format == "llama-guard-2"

    write_adapter_format(tmp_path, "llama-guard-9")
    wrong = f"{tmp_path}/guard.json: prompt_format: 'llama-guard-9' is not allowed; allowed: llama"
    assert refusal(**tuned).startswith(wrong)
    assert refusal(**tuned, format="compact").startswith(wrong)
    (tmp_path / "guard.json").write_text("[]")
    assert "guard.json: does not name a prompt_format" in refusal(**tuned)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"adapter": "x"}, "GUARD_ADAPTER and GUARD_REVISION need GUARD_MODEL"),
        ({"revision": "a" * 40}, "GUARD_ADAPTER and GUARD_REVISION need GUARD_MODEL"),
        ({"format": "llama-guard-3"}, f"the embedded model speaks {embedded.PROMPT_FORMAT} only"),
    ],
)
def test_the_embedded_model_cannot_be_changed(flags, said):
    assert said in refusal(**flags)


def test_every_setting_says_what_it_means_and_what_is_allowed():
    for setting in references(ServeSettings):
        assert setting.description.endswith(".")
        assert setting.allowed


def test_the_documented_table_is_fresh():
    page = PAGE.read_text(encoding="utf-8")

    fresh = with_fresh_table(page, references(ServeSettings))
    assert page == fresh, "run: python -m guard_service.settings.page " + str(PAGE)
    assert all(f"`{setting.variable}`" in page for setting in references(ServeSettings))
