"""What a GGUF file says of itself, and the tokenizer in it. The only door to the package gguf; reads no weights.

llama.cpp's one-file format for models. transformers reads weights and vocabulary; here stands what it does not say or do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.errors import ModelError, TokenizerError, first_line

SUFFIX = ".gguf"
BEYOND = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, OverflowError)
"""What the readers of gguf and transformers raise for damaged or unknown files (NotImplementedError is a RuntimeError)."""
APART = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva"}
"""Names of `tokenizer.ggml.pre` whose vocabularies were learned with every digit apart; transformers does not know them."""
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """`architecture` as llama.cpp names it; `pre_tokenizer` too ("" where none is named); `unreadable`: the kinds of
    quantisation in the file that no reader knows; `scaled_positions`: where the file scales them, "" where it does not;
    `tensors`: the names of its weights."""

    architecture: str
    pre_tokenizer: str
    unreadable: tuple[str, ...]
    scaled_positions: str
    tensors: tuple[str, ...]


def is_gguf(path: str | Path) -> bool:
    """Whether a path names a GGUF file; looks at the name alone."""
    return Path(path).suffix.lower() == SUFFIX


def read_header(path: str | Path) -> GGUFHeader:
    """Read what stands before the weights: about three seconds for 50,000 tokens.

    Raises ModelError when the package gguf is absent, or the file is not there, damaged, or of an unknown quantisation.
    """
    try:
        from gguf import GGML_QUANT_SIZES, GGUFReader, dequantize
    except ImportError as error:
        raise ModelError(
            f"the GGUF file {path} needs the package gguf; pip install 'gemkr[model]', or give a Hugging Face folder"
        ) from error
    if not Path(path).is_file():
        raise ModelError(f"the GGUF file {path} does not exist; correct its path")
    try:
        reader = GGUFReader(str(path))
        texts = {
            key: reader.fields[key].contents() if key in reader.fields else ""
            for key in ("general.architecture", "tokenizer.ggml.pre")
        }
        scaled = [key for key in reader.fields if ".rope.scaling." in key]
        scaled += [tensor.name for tensor in reader.tensors if tensor.name.startswith("rope_freqs")]
        kinds = {tensor.tensor_type for tensor in reader.tensors}
    except BEYOND as error:
        raise ModelError(
            f"the GGUF file {path} cannot be read: {first_line(error)}; download it again, or give one of another quantisation"
        ) from error
    unreadable = []
    for kind in sorted(kinds):
        try:
            dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
        except NotImplementedError:
            unreadable.append(kind.name)
    architecture, pre_tokenizer = texts.values()
    names = tuple(tensor.name for tensor in reader.tensors)
    return GGUFHeader(architecture, pre_tokenizer, tuple(unreadable), ", ".join(scaled[:1]), names)


def read_gguf_tokenizer(path: str | Path) -> tuple[str, dict[str, Any]]:
    """The text of a tokenizer.json and the values of a tokenizer_config.json, as the file describes its vocabulary.

    Raises ModelError as `read_header`, and TokenizerError for a vocabulary of a kind that transformers cannot build.
    """
    header = read_header(path)
    from transformers import AutoTokenizer

    path = Path(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
        description = json.loads(tokenizer.backend_tokenizer.to_str())
    except BEYOND as error:
        raise TokenizerError(
            f"the GGUF file {path} holds no tokenizer that can be read: {first_line(error)}; name another in model.tokenizer"
        ) from error
    pieces = description["pre_tokenizer"]
    if header.pre_tokenizer in APART and pieces is not None:
        digits = {"type": "Digits", "individual_digits": True}
        description["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, pieces]}
    held = description["model"]["vocab"]
    held = held if isinstance(held, dict) else {piece for piece, _ in held}
    # special tokens that transformers puts behind the vocabulary where the file names none: the model has no rows for them
    description["added_tokens"] = [token for token in description["added_tokens"] if token["content"] in held]
    named = {name: getattr(tokenizer, name) for name in SPECIAL if getattr(tokenizer, name) in held}
    if tokenizer.chat_template is not None:
        named["chat_template"] = tokenizer.chat_template
    return json.dumps(description, ensure_ascii=False), named


def write_gguf_tokenizer(path: str | Path, folder: Path) -> None:
    """Write the tokenizer of a GGUF file as those of Hugging Face folders lie there; raises as `read_gguf_tokenizer`."""
    description, named = read_gguf_tokenizer(path)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | named
    (folder / "tokenizer.json").write_text(description, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
