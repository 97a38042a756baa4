"""The embedded sample: its facts and questions, its pictures, and its base models in the true libraries."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
from collections import Counter

import numpy as np
import pytest

from gemkr.sample import models_folder
from gemkr.sample.cloth import draw
from gemkr.sample.corpus import corpus_csv, documents
from gemkr.sample.facts import KINDS, countries, facts
from gemkr.sample.flag_table import FLAGS
from gemkr.sample.flags import flag
from gemkr.sample.materialize import HELD_OUT, materialize, split_questions
from gemkr.sample.plan import Scene, held_out_combinations, plan
from gemkr.sample.scenes import SIZE, render


@pytest.fixture(scope="module")
def questions():
    return split_questions(plan(0), 0)


def gold_of(row):
    (doc_id,) = row["positives"]
    return tuple(doc_id.split("-"))


def test_every_country_has_one_fact_of_each_kind_and_a_flag():
    assert len(countries()) >= 60
    assert Counter((f.country, f.kind) for f in facts()) == Counter(
        (country, kind) for country in countries() for kind in KINDS
    )
    assert set(FLAGS) == set(countries())


def test_passages_name_their_country_and_hold_their_answer():
    rows = list(csv.DictReader(io.StringIO(corpus_csv())))
    assert [row["kid"] for row in rows] == list(documents())
    for fact in facts():
        assert fact.country in documents()[fact.doc_id]
        assert fact.name in documents()[fact.doc_id]
    assert len(set(documents().values())) == len(rows)


def test_there_are_enough_questions_and_each_has_one_gold_passage(questions):
    assert sum(len(rows) for rows in questions.values()) >= 2000
    assert len({row["image"] for rows in questions.values() for row in rows}) >= 600
    ids = [row["query_id"] for rows in questions.values() for row in rows]
    assert len(set(ids)) == len(ids)
    for rows in questions.values():
        for row in rows:
            assert [doc_id in documents() for doc_id in row["positives"]] == [True]
            assert row["answers"][0] in documents()[row["positives"][0]]


def test_no_question_names_its_country(questions):
    for rows in questions.values():
        for row in rows:
            assert not any(name in row["question"] for name in countries())


def test_scenes_and_combinations_are_held_out(questions):
    scenes = {name: {row["image"] for row in rows} for name, rows in questions.items()}
    assert not scenes["train"] & scenes["test"]
    assert not scenes["train"] & scenes["dev"]
    assert not scenes["dev"] & scenes["test"]
    assert scenes[HELD_OUT] <= {scene.scene_id for scene in plan(0) if scene.split == "test"}
    held_out = {(country.lower(), kind) for country, kind in held_out_combinations()}
    for name in ("train", "dev", "test"):
        assert not held_out & {gold_of(row) for row in questions[name]}
    assert {gold_of(row) for row in questions[HELD_OUT]} <= held_out
    asked = {gold_of(row) for row in questions["train"]}
    assert {country for country, _ in held_out} <= {country for country, _ in asked}


def test_plain_flags_differ():
    pictures = {
        name: np.asarray(flag(name, 24).convert("RGB").resize((36, 24)), np.int32) for name in countries()
    }
    for name, picture in pictures.items():
        for other, compared in pictures.items():
            if name < other:
                assert np.abs(picture - compared).mean() > 2.5, (name, other)


def test_a_flag_without_jitter_is_plain_and_with_a_seed_repeats():
    assert draw("Japan", 20).size == (30, 20)
    first, second = (np.asarray(draw("Japan", 20, np.random.default_rng(5))) for _ in range(2))
    assert np.array_equal(first, second)
    with pytest.raises(KeyError):
        draw("Atlantis", 20)


def test_a_scene_follows_from_its_plan_and_seed_alone():
    scenes = plan(0)
    picture, flags = render(scenes[3], 0)
    render(scenes[4], 0)
    again, same = render(scenes[3], 0)
    assert picture.tobytes() == again.tobytes()
    assert flags == same
    assert render(scenes[3], 1)[0].tobytes() != picture.tobytes()
    assert plan(0) == scenes
    assert plan(1) != scenes


def test_flags_hang_in_reading_order_and_inside_the_picture():
    for scene in plan(0)[:60]:
        picture, flags = render(scene)
        assert picture.size == (SIZE, SIZE)
        assert picture.mode == "RGB"
        assert [f.country for f in flags] == list(scene.flags)
        boxes = [f.box for f in flags]
        assert all(left[2] <= right[0] for left, right in itertools.pairwise(boxes))
        for x0, y0, x1, y1 in boxes:
            assert 0 <= x0 < x1 <= SIZE
            assert 0 <= y0 < y1 <= SIZE
            assert max(x1 - x0, y1 - y0) > 100 if scene.large else max(x1 - x0, y1 - y0) <= 46


def test_materialize_writes_a_whole_folder_once(tmp_path, monkeypatch):
    few = [scene for scene in plan(0) if int(scene.scene_id[-4:]) < 4]
    monkeypatch.setattr("gemkr.sample.materialize.plan", lambda seed: few)
    manifest = materialize(tmp_path / "data", progress=False)
    assert manifest["documents"] == 504
    names = {path.stem for path in (tmp_path / "data" / "images").iterdir()}
    assert names == {scene.scene_id for scene in few}
    for split in ("train", "dev", "test", HELD_OUT):
        rows = [json.loads(line) for line in (tmp_path / "data" / f"{split}.jsonl").read_text().splitlines()]
        assert rows
        assert {row["image"] for row in rows} <= names
        qrels = (tmp_path / "data" / f"{split}.qrels").read_text().split()
        assert qrels[::4] == [row["query_id"] for row in rows]
    picture = tmp_path / "data" / "images" / f"{few[0].scene_id}.jpg"
    picture.unlink()
    materialize(tmp_path / "data", progress=False)
    assert not picture.exists(), "a whole folder is left as it is"


def test_the_models_are_small():
    size = sum(path.stat().st_size for path in models_folder().rglob("*") if path.is_file())
    assert size < 15 * 1024 * 1024


def test_clues_are_unique_in_the_corpus_and_names_are_one_piece():
    from gemkr.sample.pretraining_texts import TextMaker
    from gemkr.text.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(models_folder() / "llm")
    assert (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_ids) == (0, 1, (2,))
    assert all(len(tokenizer.encode(name)) == 1 for name in countries())
    maker = TextMaker(tokenizer)
    tokens = {fact.doc_id: tokenizer.encode(documents()[fact.doc_id]) for fact in facts()}
    for fact in facts():
        clue = maker.clue(fact)
        holders = [doc_id for doc_id, ids in tokens.items() if ids[: len(clue)] == clue]
        assert holders == [fact.doc_id]


def test_the_language_model_answers_by_named_flags():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from gemkr.sample.pretraining_texts import TextMaker
    from gemkr.text.tokenizer import load_tokenizer

    torch.set_num_threads(1)
    tokenizer = load_tokenizer(models_folder() / "llm")
    model = transformers.AutoModelForCausalLM.from_pretrained(models_folder() / "llm").float().eval()
    assert model.config.vocab_size == tokenizer.vocab_size
    maker = TextMaker(tokenizer)
    right = 0
    prompts = maker.prompts(1, held_out=False)[::25]
    for prompt, fact in prompts:
        ids = torch.tensor([prompt])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False, pad_token_id=0
        )[0, len(prompt) :].tolist()
        right += out[:5] == maker.clue(fact)[:5]
    assert right / len(prompts) > 0.75


def test_the_detector_finds_the_flags_of_a_scene():
    ultralytics = pytest.importorskip("ultralytics")
    model = ultralytics.YOLO(str(models_folder() / "flags.pt"))
    assert model.names == {0: "flag"}
    scene = next(scene for scene in plan(7) if len(scene.flags) == 3)
    picture, flags = render(scene, 7)
    boxes = model.predict(picture, imgsz=192, conf=0.25, verbose=False, device="cpu")[0].boxes.xyxy.numpy()
    for one in flags:
        x, y = (one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2
        assert any(b[0] < x < b[2] and b[1] < y < b[3] for b in boxes), one


def test_open_clip_loads_the_vision_tower_and_it_reads_large_flags(tmp_path):
    torch = pytest.importorskip("torch")
    open_clip = pytest.importorskip("open_clip")
    from gemkr.sample.train_clip import name_bytes

    shutil.copy(models_folder() / "flag-vit.json", tmp_path / "open_clip_config.json")
    shutil.copy(models_folder() / "flag-vit.safetensors", tmp_path / "open_clip_model.safetensors")
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    model.eval()
    names = list(countries())[::6]
    pictures = [render(Scene(name, "t", (name,), large=True), 3)[0] for name in names]
    with torch.no_grad():
        states = model.encode_image(torch.stack([preprocess(p) for p in pictures]), normalize=True)
        texts = model.encode_text(name_bytes(), normalize=True)
    found = [countries()[i] for i in (states @ texts.T).argmax(1).tolist()]
    assert np.mean([a == b for a, b in zip(found, names, strict=True)]) > 0.8
