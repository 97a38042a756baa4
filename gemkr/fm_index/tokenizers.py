"""The tokenizer that an index was built with: what is recorded of it, and whether another one is it."""

from __future__ import annotations

from typing import Any, Protocol

from gemkr.fm_index.errors import TokenizerMismatchError


class Fingerprinted(Protocol):
    """What an index records of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...

    def fingerprint(self) -> str: ...


def require_tokenizer(index: Any, tokenizer: Fingerprinted) -> None:
    """Raise TokenizerMismatchError unless the index was built with this tokenizer (or with none)."""
    expected, size, own = index.tokenizer_fingerprint, tokenizer.vocab_size, index.vocab_size
    other = expected and expected != tokenizer.fingerprint()
    if not other and size >= own:
        return
    path = getattr(tokenizer, "path", None)
    sizes = f"which has {size:,}" if size != own else f"which has {size:,} others"
    raise TokenizerMismatchError(
        f"the index{'' if index.path is None else f' {index.path}'} was built with a vocabulary of {own:,} tokens, not with the "
        f"tokenizer{'' if path is None else f' {path}'}, {sizes}; give the tokenizer that it was built with, or build it again "
        "with this one"
    )
