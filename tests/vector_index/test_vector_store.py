"""Folders of vectors: written in blocks, gone on with after an interruption, refused where they are of something else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemkr.errors import DataError
from gemkr.vector_index.store import VectorWriter, open_vectors, vector_plan
from gemkr.vector_index.vectors import as_stored

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
    assert np.array_equal(vectors.values, VECTORS.astype(np.float16))
    assert isinstance(vectors.values, np.memmap)
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
    assert np.array_equal(open_vectors(tmp_path / "v", PLAN, "embed").values, VECTORS.astype(np.float16))
    assert VectorWriter(tmp_path / "v", PLAN).done == 10


def test_a_writing_that_was_killed_when_all_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its last manifest and its name."""

    def killed(source: Path, to: Path) -> None:
        if Path(source).suffix == ".part" and Path(source).is_dir():
            raise KeyboardInterrupt
        Path(source).rename(to)

    with monkeypatch.context() as patched:
        patched.setattr("gemkr.vector_index.store.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "v").finish()
    (tmp_path / "v.part" / ".manifest.json.1.part").write_text("{")
    again = VectorWriter(tmp_path / "v", PLAN)
    assert again.done == 10
    again.finish()
    assert np.array_equal(open_vectors(tmp_path / "v", PLAN, "embed").values, VECTORS.astype(np.float16))
    assert {path.name for path in (tmp_path / "v").iterdir()} == {"vectors.npy", "manifest.json"}


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (("encoder b", "corpus a", 10, 3), "another encoder"),
        (("encoder a", "corpus b", 10, 3), "another corpus"),
        (
            ("encoder a", "corpus b", 11, 3),
            "another corpus and another number or width of vectors .*, not .11, 3",
        ),
        (("encoder a", "corpus a", 10, 4), "another number or width of vectors ..10, 3., not .10, 4"),
        (("encoder a", "corpus a", 10, 3, "int8"), "another dtype .float16, not int8"),
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


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_every_dtype_is_resumed_and_read(tmp_path: Path, dtype: str) -> None:
    plan = vector_plan("encoder a", "corpus a", 10, 3, dtype)
    write(tmp_path / "v", plan, upto=4)
    write(tmp_path / "v", plan).finish()
    vectors, kept = open_vectors(tmp_path / "v", plan, "embed"), as_stored(VECTORS, dtype)
    assert np.array_equal(vectors.block(0, 10), kept.block(0, 10))
    numbers = np.array([7, 2, 2])
    assert np.array_equal(vectors.take(numbers), kept.block(0, 10)[numbers])
    assert vectors.take(numbers).dtype == np.float32


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_int8_is_off_by_half_a_scale_at_most(seed: int, size: float) -> None:
    """A row of zeros stays one."""
    vectors = (size * np.random.default_rng(seed).standard_normal((6, 5))).astype(np.float32)
    vectors[3] = 0
    kept = as_stored(vectors, "int8")
    assert np.abs(kept.values).max() <= 127
    error = np.abs(kept.block(0, 6) - vectors)
    assert (error <= (0.5 + 1e-4) * np.abs(vectors).max(axis=1, keepdims=True) / 127).all()


def test_vectors_that_the_writer_refuses(tmp_path: Path) -> None:
    writer = VectorWriter(tmp_path / "v", PLAN)
    with pytest.raises(DataError, match=r"vectors of the shape \[2, 4\], at most 10 of 3 numbers"):
        writer.add(np.ones((2, 4), np.float32))
    with pytest.raises(DataError, match="at most 10 of 3 numbers"):
        writer.add(np.ones((11, 3), np.float32))
    for dtype in ("float32", "int8"):
        with pytest.raises(DataError, match=f"holds a number that {dtype} cannot; check"):
            as_stored(np.full((1, 3), np.nan, np.float32), dtype)


def test_folders_of_the_first_format_are_read(tmp_path: Path) -> None:
    write(tmp_path / "v").finish()
    first = {key: value for key, value in PLAN.items() if key != "dtype"} | {"format": 1}
    (tmp_path / "v" / "manifest.json").write_text(json.dumps(first))
    assert np.array_equal(open_vectors(tmp_path / "v", PLAN, "embed").values, VECTORS.astype(np.float16))
    with pytest.raises(DataError, match=r"another dtype .float16, not int8"):
        open_vectors(tmp_path / "v", PLAN | {"dtype": "int8"}, "embed")
