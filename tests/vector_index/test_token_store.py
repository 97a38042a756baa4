"""Folders of token vectors: written in blocks, gone on with after an interruption, refused where they are of something else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from token_twins import drawn

from gemkr.errors import DataError
from gemkr.interfaces import TokenVectors
from gemkr.vector_index.maxsim import picked
from gemkr.vector_index.token_store import FORMAT, TokenWriter, open_tokens

PLAN = {"format": FORMAT, "encoder": "a", "corpus": "c", "shape": [6, 4]}
TOKENS = drawn(np.random.default_rng(0), [3, 0, 5, 2, 0, 4], 4)


def write(folder: Path, upto: int = 6, plan: dict = PLAN) -> TokenWriter:
    writer = TokenWriter(folder, plan)
    while writer.done < upto:
        writer.add(picked(TOKENS, np.arange(writer.done, writer.done + 2)))
    return writer


def same(found: TokenVectors) -> bool:
    return np.array_equal(found.values, TOKENS.values) and np.array_equal(found.offsets, TOKENS.offsets)


def test_written_in_blocks_and_read(tmp_path: Path) -> None:
    write(tmp_path / "t").finish()
    found = open_tokens(tmp_path / "t", PLAN, "embed")
    assert same(found)
    assert isinstance(found.values.base, np.memmap)
    assert not (tmp_path / "t.part").exists()
    assert (tmp_path / "t" / "values.f16").read_bytes() == TOKENS.values.tobytes()
    assert TokenWriter(tmp_path / "t", PLAN).done == 6


def test_an_interrupted_writing_goes_on(tmp_path: Path) -> None:
    """What was written after the last record is cut off, whichever file it went to."""
    write(tmp_path / "t", upto=2)
    with pytest.raises(DataError, match="are not finished; embed"):
        open_tokens(tmp_path / "t", PLAN, "embed")
    for name in ("values.f16", "offsets.i64"):
        with (tmp_path / "t.part" / name).open("ab") as stream:
            stream.write(b"half a block")
    again = TokenWriter(tmp_path / "t", PLAN)
    assert again.done == 2
    with pytest.raises(DataError, match="2 of 6 documents; add the rest"):
        again.finish()
    write(tmp_path / "t").finish()
    assert same(open_tokens(tmp_path / "t", PLAN, "embed"))


def test_a_stop_before_the_folder_is_renamed(tmp_path: Path) -> None:
    write(tmp_path / "t").finish()
    (tmp_path / "t").rename(tmp_path / "t.part")
    again = TokenWriter(tmp_path / "t", PLAN)
    assert again.done == 6
    again.finish()
    assert same(open_tokens(tmp_path / "t", PLAN, "embed"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"encoder": "b"}, "another encoder, or with its texts read otherwise"),
        ({"corpus": "d"}, "another corpus"),
        ({"shape": [6, 5]}, r"another number of documents or width of vectors \(\[6, 4\], not \[6, 5\]\)"),
        ({"format": "tokens 9"}, "another format .*"),
    ],
)
def test_tokens_of_something_else_are_refused(tmp_path: Path, change: dict, named: str) -> None:
    write(tmp_path / "t").finish()
    write(tmp_path / "u", upto=2)
    with pytest.raises(DataError, match=f"made with {named}; embed"):
        open_tokens(tmp_path / "t", PLAN | change, "embed")
    for name in ("t", "u"):
        with pytest.raises(DataError, match=f"made with {named}; delete it"):
            TokenWriter(tmp_path / name, PLAN | change)


def test_what_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="are not there; embed"):
        open_tokens(tmp_path / "none", PLAN, "embed")
    write(tmp_path / "t").finish()
    (tmp_path / "t" / "values.f16").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"are damaged: .* do not fit 6 documents and 14 tokens"):
        open_tokens(tmp_path / "t", PLAN, "embed")
    (tmp_path / "t" / "offsets.i64").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        open_tokens(tmp_path / "t", PLAN, "embed")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="holds other files"):
        TokenWriter(tmp_path / "full", PLAN)
    writer = write(tmp_path / "w", upto=2)
    big = TokenVectors(np.full((1, 4), 1e6, np.float32), np.array([0, 1]))
    with pytest.raises(DataError, match="float16 cannot"):
        writer.add(big)
    with pytest.raises(DataError, match="correct its width"):
        writer.add(TokenVectors(np.ones((1, 3), np.float16), np.array([0, 1])))
    with pytest.raises(DataError, match="at most 4 were to come"):
        writer.add(TokenVectors(np.ones((5, 4), np.float16), np.arange(6)))
    (tmp_path / "w.part" / "values.f16").write_bytes(b"")
    with pytest.raises(DataError, match="is shorter than its manifest says; delete"):
        TokenWriter(tmp_path / "w", PLAN)


def test_a_corpus_without_a_token(tmp_path: Path) -> None:
    plan = PLAN | {"shape": [2, 4]}
    writer = TokenWriter(tmp_path / "t", plan)
    writer.add(TokenVectors(np.empty((0, 4), np.float16), np.zeros(3, np.int64)))
    writer.finish()
    found = open_tokens(tmp_path / "t", plan, "embed")
    assert found.offsets.tolist() == [0, 0, 0]
    assert json.loads((tmp_path / "t" / "manifest.json").read_text())["tokens"] == 0
