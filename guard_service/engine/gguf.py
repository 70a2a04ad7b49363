"""Convert a GGUF file to a model folder of fp32 safetensors, in a process of its own.

Run as `python -m guard_service.engine.gguf FILE.gguf FOLDER`: the memory that dequantising takes
goes back to the system when the process ends.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def convert(gguf: Path, folder: Path) -> None:
    """Write weights, configuration and tokenizer of `gguf` to `folder`, created if missing."""
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    # The weights are plain floats now; as a "quantised" model they could not be saved.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
