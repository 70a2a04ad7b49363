"""The model card of a tuned adapter: what it is, how it came about, how to serve it."""

import json
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import Any

import yaml

from guard_service import embedded
from guard_service.evaluation.outputs import write_text
from guard_service.policy import Policy
from guard_service.tuning.data_report import Balance, DataReport
from guard_service.tuning.output_folder import OutputFolder
from guard_service.tuning.settings import EMBEDDED_BASE, TuneSettings

_PLACES = {"config", "output", "cache_dir"}
"""Settings that say where things lie on the machine that trained."""

_LIBRARIES = ("guard-service", "torch", "transformers", "trl", "peft")

_LLAMA_NOTICE = """\
Built with Meta Llama 3.

The base is a Llama: its licence and acceptable use policy hold for this adapter too. The Meta
Llama 3 Community License asks whoever passes it on to enclose the licence, to show the line above,
and to let the name of the model begin with "Llama 3"; a base of another generation has a licence
and a notice of its own."""

_OTHER_NOTICE = """\
The licence of the base holds for what is made from it, and so do the licences of the training
rows."""


def write_model_card(
    settings: TuneSettings, policy: Policy, report: DataReport, files: list[Path]
) -> None:
    """Write the card of the adapter in the output folder, for the curve that lies there too.

    Raises:
        ConfigurationError: it cannot be written.
    """
    folder = OutputFolder(settings.output)
    base = settings.model or EMBEDDED_BASE
    sections = (
        ("", _summary(settings, base, policy)),
        ("Serve", _command(settings)),
        ("Dev figures", _figures(folder)),
        ("Data", _data(report, files)),
        ("Recipe", _recipe(settings)),
        ("Versions", "\n".join(f"- {name} {version(name)}" for name in _LIBRARIES)),
        ("Licence", _LLAMA_NOTICE if "llama" in base.lower() else _OTHER_NOTICE),
    )
    text = "\n".join(f"## {name}\n\n{body}\n" if name else f"{body}\n" for name, body in sections)
    write_text(folder.card, text)


def _summary(settings: TuneSettings, base: str, policy: Policy) -> str:
    head = ["---", "library_name: peft", "pipeline_tag: text-classification"]
    if not Path(base).is_dir():
        head.append(f"base_model: {base}")
    codes = ", ".join(f"{each.code} {each.name}" for each in policy.categories)
    revision = f" at {settings.revision}" if settings.revision else ""
    lines = [
        *head,
        "---",
        "",
        "# Guard adapter",
        "",
        "A LoRA adapter made by `guard-service tune`: is the last turn of a conversation safe?",
        "",
        f"- base: {base}{revision}",
        f"- prompt format: {settings.format}",
        f"- policy: {policy.id}, version {policy.version}, digest `{policy.digest}`",
        f"- categories: {codes}",
    ]
    return "\n".join(lines)


def _command(settings: TuneSettings) -> str:
    model = settings.model or str(embedded.base_folder(settings.cache_dir))
    parts = ["guard-service serve", f"--model {quote(model)}"]
    if settings.revision:
        parts.append(f"--revision {settings.revision}")
    parts += [f"--adapter {quote(str(settings.output))}"]
    if settings.quantisation != "none":
        parts.append(f"--quantisation {settings.quantisation}")
    if settings.policy:
        parts.append(f"--policies {quote(str(settings.policy))}")
    return "```\n" + " \\\n    ".join(parts) + "\n```"


def _figures(folder: OutputFolder) -> str:
    picture = f"![verdict loss and AUROC against steps]({folder.curve.name})"
    if not folder.best.exists():
        return f"No dev rows were given, so this is the adapter of the last step.\n\n{picture}"
    best = json.loads(folder.best.read_text(encoding="utf-8"))
    return (
        f"Best checkpoint, at step {best['step']}: AUROC {best['eval_auroc']:.4f}, verdict loss "
        f"{best['eval_verdict_loss']:.4f}. It was chosen by these rows, so they flatter it: "
        f"`guard-service evaluate` on rows of another origin tells more.\n\n{picture}"
    )


def _data(report: DataReport, files: list[Path]) -> str:
    named = ", ".join(file.name for file in files)
    lines = [
        f"Trained on {_counts(report.rows)} of {named}; chosen by {_counts(report.dev)}.",
        "",
        f"- data digest: `{report.digest}`",
        f"- rows that repeat an earlier one: {report.num_repeated:,}",
        *(f"- {role}: {_counts(balance)}" for role, balance in report.roles.items()),
        f"- rows of each category: {_sizes(report.categories)}",
        f"- turns: {_sizes(report.turns)}",
        f"- characters: {_sizes(report.characters)}",
        *(f"- warning: {warning}" for warning in report.warnings),
    ]
    return "\n".join(lines)


def _counts(balance: Balance) -> str:
    return f"{balance.num_rows:,} rows ({balance.num_unsafe:,} unsafe)"


def _sizes(groups: Any) -> str:
    return ", ".join(f"{name}: {balance.num_rows:,}" for name, balance in groups.items())


def _recipe(settings: TuneSettings) -> str:
    changed = {
        name: value
        for name, value in settings.model_dump(mode="json").items()
        if name not in _PLACES and (name == "seed" or value != _default(name))
    }
    recipe = yaml.safe_dump(changed, sort_keys=False)
    return f"The seed, and what is not a default, as `--config` takes it:\n\n```yaml\n{recipe}```"


def _default(name: str) -> Any:
    field = TuneSettings.model_fields[name]
    default = field.get_default(call_default_factory=True, validated_data={})
    return [] if default == () else default
