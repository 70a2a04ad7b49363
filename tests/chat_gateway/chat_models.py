"""Small chat models with the real Llama 3 vocabulary and Llama 3 Instruct's form of prompt."""

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from tests.models import SMALL, Shape, random_llama
from tests.tokenizers import llama3_tokenizer

# Written apart from any published file, from the description of the format.
LLAMA_3_INSTRUCT = """\
{%- for message in messages -%}
{%- if message.role not in ['system', 'user', 'assistant'] -%}
{{ raise_exception('unknown role') }}
{%- endif -%}
{%- if loop.first %}{{ bos_token }}{% endif -%}
<|start_header_id|>{{ message.role }}<|end_header_id|>

{{ message.content | trim }}<|eot_id|>
{%- endfor -%}
{%- if add_generation_prompt -%}
<|start_header_id|>assistant<|end_header_id|>

{% endif -%}
"""

BEGIN, END, START_HEADER, END_HEADER, END_OF_TURN = 128_000, 128_001, 128_006, 128_007, 128_009
BLANK_LINE = 271
SYSTEM, USER, ASSISTANT = 9125, 882, 78_191


def llama3_chat_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = llama3_tokenizer()
    tokenizer.chat_template = LLAMA_3_INSTRUCT
    return tokenizer


def save_chat_llama(folder: Path, seed: int, shape: Shape = SMALL) -> Path:
    """A model that babbles in the whole vocabulary, in `folder` as a hub download would look."""
    random_llama(seed, shape, tied=False).save_pretrained(folder)
    llama3_chat_tokenizer().save_pretrained(folder)
    return folder
