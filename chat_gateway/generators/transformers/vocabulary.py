"""What a model's vocabulary says of its answers: their text, and the tokens that end them."""

from collections.abc import Callable, Sequence

from tokenizers import Tokenizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from guard_service.moderation import ConfigurationError

_END_TOKENS = ("<|end_of_text|>", "<|eot_id|>")


def decoder(tokenizer: PreTrainedTokenizerFast) -> Callable[[Sequence[int]], str]:
    """Tokens to text, without control tokens; may be used while `tokenizer` works elsewhere."""
    own = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())

    def decode(tokens: Sequence[int]) -> str:
        return str(own.decode(tokens, skip_special_tokens=True))

    return decode


def terminators(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """Every token that ends an answer, by any of the files that name one.

    Both of Llama 3's are among them whatever the files say: early uploads named only one, and ran
    on past the other.

    Raises:
        ConfigurationError: no file names any.
    """
    generation = model.generation_config
    ids: set[int] = set()
    for named in (generation.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id):
        ids.update(named if isinstance(named, list) else [] if named is None else [named])
    vocabulary = tokenizer.get_vocab()
    ids.update(vocabulary[token] for token in _END_TOKENS if token in vocabulary)
    if not ids:
        raise ConfigurationError("model: no file names the token that ends an answer")
    return tuple(sorted(ids))
