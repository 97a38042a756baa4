"""Checkpoints against damage: flipped bytes, missing files, full disks, models they were not made for."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from gemkr.errors import CheckpointError
from gemkr.models.weights import load_weights
from gemkr.training.checkpoints import checkpoint as module
from gemkr.training.checkpoints.checkpoint import read_checkpoint, save_checkpoint
from gemkr.training.checkpoints.folder import (
    clean_up_unfinished,
    newest_checkpoint,
    prune,
    step_checkpoints,
    step_folder,
)
from gemkr.training.checkpoints.origin import Origin, hash_files, origins_differ, require_tokenizer
from gemkr.training.loop.resume import find_resume

ORIGIN = Origin("gemkr", "a" * 64, "b" * 64, {"model": {"llm": "x", "lora": {"r": 8}}, "seed": 3})


def save(output: Path, step: int) -> Path:
    weights = {"llm.a": torch.arange(6.0).reshape(2, 3) + step, "gate": torch.tensor([0.5])}
    path = step_folder(output, step)
    save_checkpoint(path, ORIGIN, weights, optimizer={"step/gate": torch.tensor(3.0)}, state={"step": step})
    return path


def test_round_trip(tmp_path: Path) -> None:
    path = save(tmp_path, 500)
    assert path.name == "step-000500"
    found = read_checkpoint(path)
    assert found.origin == ORIGIN
    assert found.state == {"step": 500}
    assert torch.equal(found.weights["llm.a"], torch.arange(6.0).reshape(2, 3) + 500)
    assert found.optimizer["step/gate"] == 3.0
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["packages"]["torch"] == torch.__version__.split("+")[0] or manifest["packages"]["torch"]
    assert [p.name for p in tmp_path.iterdir()] == ["step-000500"]


@pytest.mark.parametrize(
    "name", ["trained.safetensors", "optimizer.safetensors", "state.json", "config.json"]
)
def test_a_flipped_byte_is_named_and_the_one_before_is_taken(tmp_path: Path, name: str, caplog) -> None:
    before, last = save(tmp_path, 1), save(tmp_path, 2)
    content = bytearray((last / name).read_bytes())
    content[len(content) // 2] ^= 1
    (last / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name} is damaged"):
        read_checkpoint(last)
    assert newest_checkpoint(tmp_path) == before
    assert name in caplog.text


@pytest.mark.parametrize(
    "damage", ["no manifest", "truncated manifest", "other format", "missing file", "shorter"]
)
def test_incomplete_folders_are_refused(tmp_path: Path, damage: str) -> None:
    path = save(tmp_path, 1)
    manifest = path / "manifest.json"
    if damage == "no manifest":
        manifest.unlink()
    elif damage == "truncated manifest":
        manifest.write_bytes(manifest.read_bytes()[:40])
    elif damage == "other format":
        manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 9'))
    elif damage == "missing file":
        (path / "state.json").unlink()
    else:
        weights = path / "trained.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert newest_checkpoint(tmp_path) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"files": None},
        {"files": ["state.json"]},
        {"bases": ["llm"]},
        {"bases": {"llm": 3}},
        {"bases": {"llm": ["a"]}},
        {"data": None},
        {"tokenizer": 7},
    ],
)
def test_a_manifest_of_other_types_is_damaged_and_the_one_before_is_taken(
    tmp_path: Path, wrong: dict, caplog: pytest.LogCaptureFixture
) -> None:
    before, last = save(tmp_path, 1), save(tmp_path, 2)
    manifest = last / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | wrong))
    with pytest.raises(
        CheckpointError, match=r"the manifest.json of the checkpoint .* is damaged; take another"
    ):
        read_checkpoint(last)
    assert newest_checkpoint(tmp_path) == before
    assert "is damaged; take another one; going back" in caplog.text


def test_a_manifest_that_tells_of_the_text_encoder_alone_still_counts(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["bases"]
    (path / "manifest.json").write_text(json.dumps(manifest | {"text_encoder": "e" * 64}))
    assert read_checkpoint(path).origin.bases == {"text_encoder": "e" * 64}


def test_a_full_disk_is_one_sentence_and_the_old_checkpoint_stays(tmp_path: Path, monkeypatch) -> None:
    save(tmp_path, 1)
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*step-000001 is whole") as error:
        save(tmp_path, 2)
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000001"]
    read_checkpoint(tmp_path / "step-000001")


def test_a_checkpoint_being_replaced_survives_a_crash(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    os.rename(path, tmp_path / ".step-000001.old")
    (tmp_path / ".step-000002.part").mkdir()
    (tmp_path / ".unrelated.part").mkdir()
    clean_up_unfinished(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".unrelated.part", "step-000001"]
    read_checkpoint(path)


def test_saving_over_an_old_one_replaces_it_whole(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    (path / "state.json").write_text("rubbish")
    save(tmp_path, 1)
    assert read_checkpoint(path).state == {"step": 1}


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    for step in (10, 9, 1_000_000, 11):
        save(tmp_path, step)
    prune(tmp_path, 2)
    assert [p.name for p in step_checkpoints(tmp_path)] == ["step-000011", "step-1000000"]


def test_strict_loading_names_keys_and_shapes() -> None:
    targets = {"a": torch.zeros(2), "b": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r"lacks 1 \(b\) and has unexpected 1 \(c\)"):
        load_weights(targets, {"a": torch.ones(2), "c": torch.ones(2)}, "here")
    with pytest.raises(CheckpointError, match=r"'b' has shape \[4\], the model has \[3\]"):
        load_weights(targets, {"a": torch.ones(2), "b": torch.ones(4)}, "here")
    assert torch.equal(targets["a"], torch.zeros(2))
    load_weights(targets, {"a": torch.ones(2), "b": torch.ones(3)}, "here")
    assert torch.equal(targets["b"], torch.ones(3))


def test_another_tokenizer_is_refused() -> None:
    require_tokenizer(ORIGIN, "a" * 64, "here")
    with pytest.raises(
        CheckpointError,
        match=r"the checkpoint here belongs to the LLM x, this .* set model\.llm and model\.tokenizer",
    ):
        require_tokenizer(ORIGIN, "c" * 64, "here")
    unknown = Origin("gemkr", "a" * 64, "b" * 64)
    with pytest.raises(CheckpointError, match="belongs to an LLM with the tokenizer aaaaaaaaaaaa, this"):
        require_tokenizer(unknown, "c" * 64, "here")


def test_differences_are_named_unless_free() -> None:
    other = Origin("gemkr", "a" * 64, "b" * 64, {"model": {"llm": "x", "lora": {"r": 4}}, "seed": 4})
    assert origins_differ(ORIGIN, other, frozenset()) == "model.lora.r was 8, is 4"
    assert origins_differ(ORIGIN, other, frozenset({"model.lora.r"})) == "seed was 3, is 4"
    assert origins_differ(ORIGIN, other, frozenset({"model.lora.r", "seed"})) is None
    moved = Origin("gemkr", "a" * 64, "f" * 64, ORIGIN.config)
    assert origins_differ(ORIGIN, moved, frozenset()) == "data was bbbbbbbbbbbb, is ffffffffffff"


def test_settings_that_earlier_checkpoints_lack_had_their_default() -> None:
    now = {"model": {"llm": "x", "lora": {"r": 8, "dora": False}}, "seed": 3, "optimizer": {"eps": 1e-8}}
    assert origins_differ(ORIGIN, Origin("gemkr", "a" * 64, "b" * 64, now), frozenset()) is None
    now["optimizer"]["eps"] = 1e-6
    changed = origins_differ(ORIGIN, Origin("gemkr", "a" * 64, "b" * 64, now), frozenset())
    assert changed == "optimizer.eps was 1e-08, is 1e-06"
    now = now | {"optimizer": {}, "model": {"llm": "x", "lora": {"r": 8, "dora": True}}}
    changed = origins_differ(ORIGIN, Origin("gemkr", "a" * 64, "b" * 64, now), frozenset())
    assert changed == "model.lora.dora was False, is True"


def test_origin_config_with_tuples_survives_json(tmp_path: Path) -> None:
    origin = Origin("gemkr", "a", "b", {"metrics": ("P@5", "S@5")})
    save_checkpoint(tmp_path / "step-000001", origin, {"a": torch.zeros(1)})
    assert origins_differ(read_checkpoint(tmp_path / "step-000001").origin, origin, frozenset()) is None


def test_no_run_is_written_over_another(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    save(theirs, 500)
    assert find_resume(ours, None) is None
    assert find_resume(ours, "auto") is None
    assert find_resume(ours, theirs / "step-000500").path == theirs / "step-000500"
    save_checkpoint(ours / "final", ORIGIN, {"a": torch.zeros(1)})
    for resume in (None, "auto", theirs / "step-000500"):
        with pytest.raises(CheckpointError, match=r"ours (already holds a training|holds a finished) run"):
            find_resume(ours, resume)
    save(ours, 7)
    assert find_resume(ours, "auto").path.name == "step-000007"
    assert find_resume(ours, tmp_path / "theirs" / ".." / "ours" / "step-000007").path.name == "step-000007"
    with pytest.raises(CheckpointError, match=r"and .*theirs/step-000500 is not of it"):
        find_resume(ours, theirs / "step-000500")


def test_the_hash_of_a_corpus_folder_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    one = tmp_path / "c" / "one.txt"
    one.write_text("text")
    before = hash_files([tmp_path / "c"])
    assert before == hash_files([str(tmp_path / "c")])
    one.write_text("other")
    changed = hash_files([tmp_path / "c"])
    one.write_text("text")
    one.rename(tmp_path / "c" / "two.txt")
    assert len({before, changed, hash_files([tmp_path / "c"]), hash_files([tmp_path / "c" / "two.txt"])}) == 4
