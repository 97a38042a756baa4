"""A LLaMA out of a GGUF file: an ordinary model of transformers, or a whole Hugging Face folder written from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gemkr.errors import ModelError, first_line
from gemkr.models.hf.folder import UNREADABLE, without_bars
from gemkr.text.gguf_file import read_header, write_gguf_tokenizer

ARCHITECTURE = "llama"
"""As llama.cpp names it; Mistral's models bear it too, and Mixtral's, and LLaMAs with biases."""
PARTS = re.compile(
    r"(token_embd|output_norm|output|rope_freqs|blk\.\d+\.(attn_(q|k|v|output|norm|rot_embd)|ffn_(gate|up|down|norm)))\.weight"
)
"""The tensors of a plain LLaMA; transformers passes over others, and so would give another model."""


def read_gguf_llama(path: str | Path, dtype: torch.dtype) -> nn.Module:
    """The `LlamaForCausalLM` of a GGUF file, its blocks turned to numbers of `dtype`: half a minute for 135 M parameters.

    What transformers returns remembers where it came from and refuses to be saved; this is built anew and does not.
    Raises ModelError as `describe_gguf_llama`, and for a file without all of a LLaMA's weights.
    """
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    config = describe_gguf_llama(path)
    path = Path(path)
    try:
        with without_bars():
            read, info = AutoModelForCausalLM.from_pretrained(
                path.parent,
                gguf_file=path.name,
                dtype=torch.float32,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except UNREADABLE as error:
        raise ModelError(
            f"the weights in the GGUF file {path} cannot be read: {first_line(error)}"
        ) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"the GGUF file {path} lacks {missing[0]} and {len(missing) - 1} more of a LLaMA's weights; download it again"
        )
    for name, held, needed in info["mismatched_keys"]:
        raise ModelError(
            f"{name} in the GGUF file {path} has the shape {list(held)}, its description needs {list(needed)}; download it again"
        )
    plain = LlamaForCausalLM(config)
    plain.load_state_dict(read.state_dict())
    return plain.to(dtype).eval()


def describe_gguf_llama(path: str | Path) -> Any:
    """The `LlamaConfig` of a GGUF file, without its weights.

    Raises ModelError for a file that cannot be read (`read_header`), of another architecture, with scaled positions or weights
    that a plain LLaMA has not, and of a quantisation that cannot be turned to numbers.
    """
    from transformers import AutoConfig, LlamaConfig

    header = read_header(path)
    if header.architecture != ARCHITECTURE:
        raise ModelError(
            f"the GGUF file {path} holds a model of the architecture {header.architecture or 'unknown'}, only "
            f"{ARCHITECTURE} can be read from GGUF; give its Hugging Face folder in place of the file"
        )
    if header.unreadable:
        raise ModelError(
            f"the GGUF file {path} is quantised as {', '.join(header.unreadable)}, which cannot be read; give the same model in "
            "another quantisation such as Q8_0, Q4_1 or F16"
        )
    if header.scaled_positions:
        raise ModelError(
            f"the GGUF file {path} scales its positions ({header.scaled_positions}), which cannot be read from GGUF; give its "
            "Hugging Face folder in place of the file"
        )
    others = [name for name in header.tensors if not PARTS.fullmatch(name)]
    if others:
        raise ModelError(
            f"the GGUF file {path} holds {others[0]} and {len(others) - 1} more weights that a plain LLaMA has not; give its Hugging "
            "Face folder in place of the file"
        )
    path = Path(path)
    try:
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    except UNREADABLE as error:
        raise ModelError(f"the GGUF file {path} cannot be described: {first_line(error)}") from error
    values = config.to_dict()
    for name in ("_name_or_path", "_model_name_or_path", "model_type", "transformers_version"):
        values.pop(name, None)
    return LlamaConfig(**values)


def write_llama_folder(path: str | Path, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write the Hugging Face folder (weights in `dtype`, configuration, tokenizer) of a GGUF file, in place; raises as the readers.

    The caller gives a folder under a temporary name and renames it once he is content with it.
    """
    model = read_gguf_llama(path, dtype)
    with without_bars():
        model.save_pretrained(folder)
    write_gguf_tokenizer(path, folder)
