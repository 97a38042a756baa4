"""Pictures at question time: equal to the offline store to the last digit, and refused in one sentence."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gemkr.errors import DataError, VisionError
from gemkr.sample import models_folder
from gemkr.sample.plan import plan
from gemkr.sample.scenes import render
from gemkr.types import Query
from gemkr.vision.config import DetectorConfig, TowerConfig
from gemkr.vision.detect import Detector
from gemkr.vision.encode import Tower, load_tower
from gemkr.vision.extractor import RegionExtractor
from gemkr.vision.online import OnlinePictures
from gemkr.vision.pictures import PictureFolder, require_pictures
from gemkr.vision.regions import detect_regions, encode_regions
from gemkr.vision.store import PictureRegions, RegionStore

pytest.importorskip("ultralytics")

FLAGS = DetectorConfig(str(models_folder() / "flags.pt"), 3, 0.4, 0.6, 192, margin=0.1)
SCENES = 40
"""Enough for a difference in the last digits of a box: batches of one and of sixteen gave one in about 64."""


def flag_tower() -> Tower:
    models = models_folder()
    return load_tower(
        TowerConfig(config=str(models / "flag-vit.json"), weights=str(models / "flag-vit.safetensors"))
    )


@pytest.fixture(scope="module")
def tower() -> Tower:
    return flag_tower()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> PictureFolder:
    """Scenes of the sample as photos: JPEG, one of them turned by its EXIF data, one without a flag, one of other size."""
    folder = tmp_path_factory.mktemp("scenes")
    for i, scene in enumerate(plan(3, {"dev": SCENES})):
        render(scene, 3)[0].save(folder / f"s{i:02d}.jpg", quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "s00.jpg").rotate(90, expand=True).save(folder / "turned.jpg", exif=exif)
    Image.new("RGB", (90, 60), "grey").save(folder / "empty.png")
    Image.open(folder / "s01.jpg").resize((640, 427)).convert("RGBA").save(folder / "wide.png")
    return PictureFolder(folder)


@pytest.fixture(scope="module")
def store(pictures: PictureFolder, tower: Tower, tmp_path_factory: pytest.TempPathFactory) -> RegionStore:
    """Made offline, in chunks that do not fit the pictures' number."""
    folder = tmp_path_factory.mktemp("store")
    detect_regions(Detector(FLAGS), pictures, folder / "boxes.jsonl", batch=16)
    made, _ = encode_regions(
        tower, pictures, folder / "boxes.jsonl", folder / "regions", regions=5, margin=0.1, batch=7
    )
    return made


@pytest.fixture
def online(store: RegionStore, tower: Tower) -> OnlinePictures:
    return OnlinePictures(RegionExtractor.like(store, tower))


def require_equal(one: PictureRegions, other: PictureRegions) -> None:
    """The same bytes, not nearly the same numbers."""
    assert one.features.dtype == other.features.dtype == np.float16
    assert one.features.tobytes() == other.features.tobytes()
    assert one.boxes.dtype == other.boxes.dtype == np.float32
    assert one.boxes.tobytes() == other.boxes.tobytes()
    assert (one.count, one.size, one.classes, one.scores) == (
        other.count,
        other.size,
        other.classes,
        other.scores,
    )


def test_pictures_one_by_one_are_equal_to_the_store(
    pictures: PictureFolder, store: RegionStore, online: OnlinePictures
) -> None:
    counts = set()
    for name in reversed(pictures.ids()):
        image_id = online.add(pictures.path(name))
        require_equal(online.regions.get(image_id), store.get(name))
        assert online.open(image_id).tobytes() == pictures.open(name).tobytes()
        assert online.path(image_id) == pictures.path(name)
        counts.add(store.get(name).count)
    assert counts >= {0, 1, 2, 3}
    assert (online.regions.width, online.regions.encoder) == (store.width, store.encoder)


def test_paths_bytes_and_decoded_pictures_are_the_same(
    pictures: PictureFolder, store: RegionStore, online: OnlinePictures
) -> None:
    for name in ("turned", "wide", "s05"):
        path = pictures.path(name)
        decoded = Image.open(path)
        ids = [online.add(given) for given in (path, str(path), path.read_bytes(), decoded)]
        assert ids[0] == ids[1] == ids[2]
        for image_id in ids:
            require_equal(online.regions.get(image_id), store.get(name))
    with pytest.raises(VisionError, match="was not given as a file"):
        online.path(ids[3])


def test_boxes_alone_need_no_tower(pictures: PictureFolder, store: RegionStore) -> None:
    online = OnlinePictures(RegionExtractor.like(store, None))
    for name in ("s00", "empty", "turned"):
        found, stored = online.regions.get(online.add(pictures.path(name))), store.get(name)
        assert (found.count, found.classes, found.scores) == (stored.count, stored.classes, stored.scores)
        assert np.array_equal(found.boxes, stored.boxes)
        assert found.features.shape == (store.rows, 0)
    assert online.regions.width == 0


def test_the_number_of_threads_changes_nothing_and_stays(
    pictures: PictureFolder, store: RegionStore, tower: Tower
) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            online = OnlinePictures(RegionExtractor.like(store, tower))
            for name in ("s02", "s03"):
                require_equal(online.regions.get(online.add(pictures.path(name))), store.get(name))
                assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_detection_alone_and_among_others_on_any_number_of_threads(pictures: PictureFolder) -> None:
    """Equal before any rounding: what ultralytics gives is compared, not the hundredths that are kept."""
    ids = pictures.ids()[::4]
    opened = [pictures.open(name) for name in ids]
    before = torch.get_num_threads()
    raw: list[bytes] = []

    def detected(detector: Detector, first: int, last: int) -> list[bytes]:
        raw.clear()
        detector.detect(ids[first:last], opened[first:last])
        return list(raw)

    try:
        found = []
        for threads in (1, 2):
            detector = Detector(FLAGS)
            detector.detect(ids[:1], opened[:1])
            detector._threads = threads
            predict = detector._model.predict

            def spy(*args: Any, predict: Any = predict, **options: Any) -> Any:
                results = predict(*args, **options)
                raw.extend(result.boxes.data.numpy().tobytes() for result in results)
                return results

            detector._model.predict = spy
            found.append(detected(detector, 0, len(ids)))
            assert sum(map(len, found[-1])) > 0
            assert [detected(detector, i, i + 1)[0] for i in range(len(ids))] == found[-1]
        assert found[0] == found[1]
    finally:
        torch.set_num_threads(before)


def test_a_picture_is_computed_once_and_can_be_removed(
    pictures: PictureFolder, online: OnlinePictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor, calls = online._extractor, []
    monkeypatch.setattr(online, "_extractor", lambda *given: calls.append(given[0]) or extractor(*given))
    first = online.add(pictures.path("s05"))
    assert online.add(pictures.path("s05").read_bytes()) == first
    assert calls == [first]
    online.add(pictures.path("s06"))
    assert len(calls) == 2
    online.remove(first)
    online.remove(first)
    assert first not in online
    assert first not in online.regions
    for look in (online.open, online.path, online.regions.get):
        with pytest.raises(VisionError, match="was not given; add it first"):
            look(first)


def test_stored_and_given_pictures_stand_side_by_side(
    pictures: PictureFolder, store: RegionStore, tower: Tower
) -> None:
    online = OnlinePictures(RegionExtractor.like(store, tower), pictures, store)
    image_id = online.add(pictures.path("s07"))
    require_equal(online.regions.get(image_id), online.regions.get("s07"))
    assert online.open("s07").tobytes() == online.open(image_id).tobytes()
    assert online.path("s08") == pictures.path("s08")
    queries = [Query("1", "?", image_id), Query("2", "?", "s07.jpg"), Query("3", "?")]
    require_pictures(queries, online, online.regions)
    with pytest.raises(DataError, match=r"1 of the 1 pictures .* are not in .*scenes"):
        require_pictures([Query("1", "?", "given-0")], online, online.regions)
    with pytest.raises(DataError, match="have no features in"):
        require_pictures([Query("1", "?", "given-0")], None, online.regions)
    only_pictures = OnlinePictures(pictures=pictures, store=store)
    assert only_pictures.regions is store
    assert only_pictures.open(only_pictures.add(pictures.path("s07"))).size == (200, 200)


def test_what_is_no_picture_is_named(pictures: PictureFolder, online: OnlinePictures, tmp_path: Path) -> None:
    whole = pictures.path("s09").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "note.jpg").write_text("no picture")
    vector = BytesIO()
    Image.new("RGB", (9, 9)).save(vector, "EPS")
    for given, name, message in [
        (tmp_path / "cut.jpg", None, r"the picture \S*cut\.jpg cannot be read: .*truncated"),
        (
            tmp_path / "note.jpg",
            None,
            r"the picture \S*note\.jpg cannot be read: it is no picture of a known",
        ),
        (str(tmp_path / "none.jpg"), None, r"the picture \S*none\.jpg cannot be read: No such file"),
        (tmp_path, None, r"cannot be read: Is a directory"),
        (b"", "photo.png", r"the picture photo\.png cannot be read: it is no picture"),
        (whole[:200], None, r"the given picture cannot be read"),
        (
            vector.getvalue(),
            "page.eps",
            r"page\.eps cannot be read: it is no picture of a known format \(JPEG",
        ),
        (Image.open(tmp_path / "cut.jpg"), "upload", r"the picture upload cannot be read: .*truncated"),
    ]:
        with pytest.raises(VisionError, match=message) as refusal:
            online.add(given, name)
        assert "\n" not in str(refusal.value)
        assert "object at" not in str(refusal.value)
    with pytest.raises(VisionError, match="not a value of type int"):
        online.add(5)


def test_decompression_bombs_are_refused(
    pictures: PictureFolder, online: OnlinePictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pictures.path("s10")
    decoded = pictures.open("s10")
    for limit in (
        200 * 200 - 1,
        200 * 200 // 3,
    ):  # PIL warns beyond its limit, and refuses beyond twice of it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for given in (path, path.read_bytes(), decoded):
            with pytest.raises(VisionError, match=r"cannot be read: .*pixels"):
                online.add(given)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200 * 200)
    assert online.add(path) in online


def test_another_detector_beside_a_store_is_refused(
    pictures: PictureFolder, store: RegionStore, tower: Tower, tmp_path: Path
) -> None:
    for change, message in [
        ({"confidence": 0.25}, r"\(confidence 0\.4, not 0\.25\)"),
        ({"regions": 4, "image_size": 160}, r"\(regions 3, not 4, image_size 192, not 160\)"),
        ({"margin": 0.05}, r"\(margin 0\.1, not 0\.05\)"),
    ]:
        extractor = RegionExtractor(Detector(replace(FLAGS, **change)), tower, 5)
        with pytest.raises(VisionError, match=f"were made with another detector.*{message}"):
            OnlinePictures(extractor, pictures, store)
    with pytest.raises(VisionError, match="holds 5 regions of width 128, online ones are 3"):
        OnlinePictures(RegionExtractor(Detector(FLAGS), tower), pictures, store)
    other = flag_tower()
    other.fingerprint = "f" * 64
    with pytest.raises(VisionError, match=r"come from the tower .* online ones from ffffffffffff"):
        RegionExtractor.like(store, other)
    with pytest.raises(VisionError, match="has bfloat16 weights"):
        RegionExtractor.like(store, flag_tower().to(torch.bfloat16))
    (tmp_path / "flags.pt").symlink_to(models_folder() / "flags.pt")
    assert RegionExtractor.like(store, tower, weights=str(tmp_path / "flags.pt")).rows == 5
    (tmp_path / "tinyn.yaml").write_text(
        "nc: 2\nscales: {n: [0.33, 0.125, 1024]}\nbackbone: [[-1, 1, Conv, [64, 3, 2]], [-1, 1, Conv, [128, 3, 2]], "
        "[-1, 1, Conv, [256, 3, 2]]]\nhead: [[[2], 1, Detect, [nc]]]\n"
    )
    with pytest.raises(VisionError, match=r"\(weights [0-9a-f]{12}, not [0-9a-f]{12}\)"):
        RegionExtractor.like(store, tower, weights=str(tmp_path / "tinyn.yaml"))


def test_a_store_records_its_detector(store: RegionStore) -> None:
    detector = Detector(FLAGS)
    assert store.detector == detector.record
    assert store.detector.config == FLAGS
    relative = replace(FLAGS, weights=os.path.relpath(FLAGS.weights))
    assert Detector(relative).record == detector.record


def test_a_store_of_an_earlier_version_opens_and_compares_fingerprints(
    store: RegionStore, tower: Tower, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "features.npy").write_bytes((store.path / "features.npy").read_bytes())
    index = json.loads((store.path / "index.json").read_text())
    del index["settings"], index["weights"]
    (old / "index.json").write_text(json.dumps(index))
    opened = RegionStore.open(old)
    require_equal(opened.get("s00"), store.get("s00"))
    assert (opened.detector.config, opened.detector.margin) == (None, 0.1)
    with pytest.raises(VisionError, match="does not record its detector's settings"):
        RegionExtractor.like(opened, tower)
    RegionExtractor(Detector(FLAGS), tower, 5).require_like(opened)
    with pytest.raises(VisionError, match=r"\(fingerprint [0-9a-f]{12}, not [0-9a-f]{12}\)"):
        RegionExtractor(Detector(replace(FLAGS, overlap=0.5)), tower, 5).require_like(opened)
    index["settings"] = 3
    (old / "index.json").write_text(json.dumps(index))
    with pytest.raises(VisionError, match="is damaged"):
        RegionStore.open(old)
