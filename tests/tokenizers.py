"""The real Llama 3 tokenizer, converted offline from the file inside the llama-models package."""

import hashlib
import importlib.util
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import tiktoken
import transformers
from tiktoken.load import load_tiktoken_bpe
from tokenizers import processors
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

BEGIN_OF_TEXT = "<|begin_of_text|>"
END_OF_TEXT = "<|end_of_text|>"
NAMED_SPECIALS = {
    0: BEGIN_OF_TEXT,
    1: END_OF_TEXT,
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    9: "<|eot_id|>",
}
NUM_SPECIALS = 256
FIRST_SPECIAL_ID = 128_000
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@lru_cache(maxsize=1)
def llama3_tokenizer() -> PreTrainedTokenizerFast:
    """128,256 entries, special names and BOS rule as published; about 7 s once per machine."""
    folder = _cache_folder()
    if not folder.is_dir():
        _convert_into(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def llama3_model_file() -> Path:
    """The tiktoken file inside the installed package, found without importing the package."""
    spec = importlib.util.find_spec("llama_models")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "llama3" / "tokenizer.model"


def llama3_special_names() -> list[str]:
    reserved = (f"<|reserved_special_token_{number}|>" for number in range(NUM_SPECIALS))
    return [NAMED_SPECIALS.get(index) or next(reserved) for index in range(NUM_SPECIALS)]


def _cache_folder() -> Path:
    fingerprint = hashlib.sha256()
    for part in (llama3_model_file(), Path(__file__)):
        fingerprint.update(part.read_bytes())
    fingerprint.update(transformers.__version__.encode())
    name = f"llama3-{fingerprint.hexdigest()[:16]}"
    return Path(tempfile.gettempdir()) / f"guard-service-tests-{os.getuid()}" / name


def _convert_into(folder: Path) -> None:
    """Fill a scratch folder, then move it in one step: two test runs may convert at once."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent))
    _convert().save_pretrained(scratch)
    try:
        scratch.rename(folder)
    except OSError:
        shutil.rmtree(scratch)


def _convert() -> PreTrainedTokenizerFast:
    names = llama3_special_names()
    converted = TikTokenConverter(
        vocab_file=str(llama3_model_file()), extra_special_tokens=names
    ).converted()
    converted.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{BEGIN_OF_TEXT} $A",
                pair=f"{BEGIN_OF_TEXT} $A {BEGIN_OF_TEXT}:1 $B:1",
                special_tokens=[(BEGIN_OF_TEXT, FIRST_SPECIAL_ID)],
            ),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=converted,
        bos_token=BEGIN_OF_TEXT,
        eos_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


@lru_cache(maxsize=1)
def llama3_reference() -> tiktoken.Encoding:
    """The same vocabulary in the implementation Llama 3 was published with."""
    return tiktoken.Encoding(
        name="llama3",
        pat_str=SPLIT_PATTERN,
        mergeable_ranks=load_tiktoken_bpe(str(llama3_model_file())),
        special_tokens={
            name: FIRST_SPECIAL_ID + index for index, name in enumerate(llama3_special_names())
        },
    )
