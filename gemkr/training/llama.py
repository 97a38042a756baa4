"""A small LLaMA of random weights: made, as the loop wants it, and written as an ordinary Hugging Face folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor, nn

from gemkr.errors import CheckpointError, ConfigError, first_line
from gemkr.files import part_of
from gemkr.models.hf.folder import without_bars
from gemkr.text.gguf_file import is_gguf, write_gguf_tokenizer
from gemkr.text.tokenizer import Tokenizer
from gemkr.training.config import LlamaConfig

TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def build_llama(size: LlamaConfig, tokenizer: Tokenizer) -> nn.Module:
    """A `LlamaForCausalLM` with random weights, its vocabulary and special ids those of `tokenizer`."""
    import transformers

    if size.hidden % size.heads or (size.hidden // size.heads) % 2:
        raise ConfigError(
            f"llama.hidden {size.hidden} must be an even multiple of llama.heads {size.heads}; change one of them"
        )
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=tokenizer.vocab_size,
            hidden_size=size.hidden,
            intermediate_size=size.intermediate,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.heads,
            max_position_embeddings=size.context,
            tie_word_embeddings=size.tie_embeddings,
            bos_token_id=tokenizer.bos_id,
            eos_token_id=tokenizer.eos_ids[0],
        )
    )


def save_llama(model: nn.Module, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the Hugging Face folder (weights, configuration, tokenizer) under a temporary name, then rename it."""
    part = part_of(folder)
    try:
        shutil.rmtree(part, ignore_errors=True)
        with without_bars():
            model.save_pretrained(part)
        source = Path(tokenizer.path)
        if source.is_dir():
            for name in TOKENIZER_FILES:
                if (source / name).is_file():
                    shutil.copyfile(source / name, part / name)
        elif is_gguf(source):
            write_gguf_tokenizer(source, part)
        else:
            name = "tokenizer.json" if source.suffix == ".json" else "tokenizer.model"
            shutil.copyfile(source, part / name)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(part, folder)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise CheckpointError(
            f"the model folder {folder} cannot be written ({reason}); free some space and resume"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


class CausalLoss(nn.Module):
    """A Hugging Face causal LM as the loop wants it: batch -> mean cross entropy of the next token."""

    def __init__(self, llm: nn.Module) -> None:
        super().__init__()
        self.llm = llm

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.llm(input_ids=batch["labels"], labels=batch["labels"], use_cache=False).loss
