"""Folders of vectors: written in blocks, gone on with after an interruption, refused where they are of something else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gemkr.errors import DataError
from gemkr.vector_index.store import VectorWriter, open_vectors, vector_plan

PLAN = vector_plan("encoder a", "corpus a", 10, 3)
VECTORS = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)


def write(folder: Path, plan: dict = PLAN, upto: int = 10) -> VectorWriter:
    writer = VectorWriter(folder, plan)
    while writer.done < upto:
        writer.add(VECTORS[writer.done : writer.done + 4])
    return writer


def test_written_in_blocks_and_read(tmp_path: Path) -> None:
    write(tmp_path / "v").finish()
    vectors = open_vectors(tmp_path / "v", PLAN, "embed")
    assert np.array_equal(vectors, VECTORS.astype(np.float16))
    assert isinstance(vectors, np.memmap)
    assert not (tmp_path / "v.part").exists()


def test_an_interrupted_writing_goes_on(tmp_path: Path) -> None:
    write(tmp_path / "v", upto=4)
    with pytest.raises(DataError, match="are not finished; embed"):
        open_vectors(tmp_path / "v", PLAN, "embed")
    again = VectorWriter(tmp_path / "v", PLAN)
    assert again.done == 4
    with pytest.raises(DataError, match="4 of 10"):
        again.finish()
    write(tmp_path / "v").finish()
    assert np.array_equal(open_vectors(tmp_path / "v", PLAN, "embed"), VECTORS.astype(np.float16))
    assert VectorWriter(tmp_path / "v", PLAN).done == 10


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (("encoder b", "corpus a", 10, 3), "another encoder"),
        (("encoder a", "corpus b", 10, 3), "another corpus"),
        (("encoder a", "corpus b", 11, 3), "another corpus and another number or width"),
    ],
)
def test_vectors_of_something_else_are_refused(tmp_path: Path, other: tuple, named: str) -> None:
    write(tmp_path / "v").finish()
    write(tmp_path / "w", upto=4)
    with pytest.raises(DataError, match=f"made with {named}.*; embed"):
        open_vectors(tmp_path / "v", vector_plan(*other), "embed")
    for name in ("v", "w"):
        with pytest.raises(DataError, match=f"made with {named}.*delete it"):
            VectorWriter(tmp_path / name, vector_plan(*other))


def test_what_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="are not there; embed"):
        open_vectors(tmp_path / "none", PLAN, "embed")
    write(tmp_path / "v").finish()
    (tmp_path / "v" / "vectors.npy").write_bytes(b"junk")
    with pytest.raises(DataError, match="cannot be read"):
        open_vectors(tmp_path / "v", PLAN, "embed")
    np.save(tmp_path / "v" / "vectors.npy", VECTORS)
    with pytest.raises(DataError, match="are damaged"):
        open_vectors(tmp_path / "v", PLAN, "embed")
    (tmp_path / "v" / "manifest.json").write_text(json.dumps(PLAN | {"format": 9}))
    with pytest.raises(DataError, match="format 9"):
        open_vectors(tmp_path / "v", PLAN, "embed")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="holds other files"):
        VectorWriter(tmp_path / "full", PLAN)
    with pytest.raises(DataError, match="float16 cannot"):
        VectorWriter(tmp_path / "big", PLAN).add(np.full((1, 3), 1e6, np.float32))
