"""What `guard-service tune` takes on a model of the 8B shape: memory of the GPU, seconds.

    python -m benchmarks.tune_memory ROWS.jsonl.gz --scratch /dev/shm/8b

Weights are random and are written to `--scratch` first (16 GB), so that the run loads and quantises
them as it would any model's. Tokens are those of the embedded vocabulary: only their number counts.
"""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from transformers import LlamaForCausalLM

from benchmarks.gpu_weights import SHAPES, Shape, llama_config
from benchmarks.report import GIB, Output, show, write
from guard_service import embedded
from guard_service.evaluation.rows import read_rows
from guard_service.tuning.run import tune
from guard_service.tuning.settings import TuneSettings, load

NUM_ROWS = 3000


def save_random_llama(shape: Shape, folder: Path) -> None:
    """Random bf16 weights of this shape, made where there is a GPU on it, and a tokenizer."""
    config = llama_config(shape, bos=1, eos=2)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for file in embedded.ensure(load(TuneSettings).cache_dir).glob("tokenizer*"):
        shutil.copy(file, folder)


def main(
    rows: Annotated[Path, typer.Argument(help="Rows to train on, for their lengths.")],
    *,
    scratch: Annotated[Path, typer.Option(help="Folder for the weights; kept if it is there.")],
    shape: str = "8b",
    quantisation: str = "4bit",
    step_tokens: int = 1200,
    accumulate: int = 4,
    steps: int = 8,
    output: Output = None,
) -> None:
    """Tune for a few steps, and say what it took."""
    if not scratch.is_dir():
        save_random_llama(SHAPES[shape], scratch)
    said: dict[str, Any] = {
        "format": "llama-guard-2",
        "quantisation": quantisation,
        "step_tokens": step_tokens,
        "accumulate": accumulate,
        "steps": steps,
        "rank": 16,
        "max_tokens": min(1000, step_tokens),
    }
    on_gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:
        given = {**said, "model": str(scratch), "output": Path(folder) / "tuned"}
        settings = load(TuneSettings, given)
        began = time.monotonic()
        tune(settings, read_rows([rows], NUM_ROWS), [], resume=False, say=typer.echo)
        seconds = time.monotonic() - began
    figures = {
        **said,
        "shape": shape,
        "seconds": round(seconds, 1),
        "peak GiB": round(torch.cuda.max_memory_allocated() / GIB, 2) if on_gpu else None,
        "reserved GiB": round(torch.cuda.max_memory_reserved() / GIB, 2) if on_gpu else None,
        "card": torch.cuda.get_device_name() if on_gpu else None,
    }
    show("Tuning", [figures])
    write("tune_memory", {"figures": figures}, quick=False, output=output)


if __name__ == "__main__":
    typer.run(main)
