"""Pictures, boxes, the region store and the two passes over a folder."""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_tower import tiny_tower
from toy_boxes import TINY_YOLO, some_boxes, write_boxes

from gemkr.cli.regions import add_arguments, run
from gemkr.errors import VisionError
from gemkr.vision.boxes import BoxesWriter, PictureBoxes, read_boxes
from gemkr.vision.config import DetectorConfig
from gemkr.vision.crops import crop_boxes
from gemkr.vision.detect import Detector, best_rows
from gemkr.vision.encode import Tower
from gemkr.vision.pictures import PictureFolder
from gemkr.vision.record import DetectorRecord
from gemkr.vision.regions import detect_regions, encode_regions
from gemkr.vision.store import RegionStore
from gemkr.vision.store_writer import RegionStoreWriter


@pytest.fixture
def folder(tmp_path: Path) -> PictureFolder:
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.JPG", "c.webp", "d.jpeg", "e.png"):
        Image.fromarray(rng.integers(0, 255, (50, 70, 3), dtype=np.uint8)).save(images / name)
    (images / "notes.txt").write_text("no picture")
    return PictureFolder(images)


@pytest.fixture
def tower(tmp_path: Path) -> Tower:
    return tiny_tower(tmp_path)


def test_pictures_are_found_by_id(folder: PictureFolder) -> None:
    assert folder.ids() == ["a", "b", "c", "d", "e"]
    assert folder.open("b").mode == "RGB"
    assert folder.path("a.png") == folder.path("a")
    for bad in ("z", "../images/a", "/etc/passwd", ""):
        with pytest.raises(VisionError, match="is not in"):
            folder.path(bad)
    with pytest.raises(VisionError, match="does not exist"):
        PictureFolder(folder.folder / "nowhere")


def test_a_lookup_leaves_nothing_in_the_interpreters_tables(
    folder: PictureFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    interned: list[str] = []
    keep = sys.intern
    monkeypatch.setattr(sys, "intern", lambda text: interned.append(text) or keep(text))
    for image_id in ("a", "b.jpg", "trip/z"):
        assert (image_id in folder) == (image_id != "trip/z")
    folder.open("c")
    folder.check("d")
    assert not interned
    folder.path("a")
    assert len(interned) < 20  # the parts of one path


def test_corrupt_pictures_are_named_or_listed(folder: PictureFolder) -> None:
    whole = (folder.folder / "b.JPG").read_bytes()
    (folder.folder / "b.JPG").write_bytes(whole[: len(whole) // 2])
    (folder.folder / "c.webp").write_bytes(b"not a picture")
    for bad in "bc":
        with pytest.raises(VisionError, match=f"'{bad}'.*cannot be read"):
            folder.open(bad)
    skipped: dict[str, str] = {}
    assert [name for name, _ in folder.open_all([*"abcd", "zz"], skipped)] == ["a", "d"]
    assert set(skipped) == {"b", "c", "zz"}


def test_turned_photos_stand_upright(folder: PictureFolder) -> None:
    picture = Image.new("RGB", (20, 10))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(folder.folder / "t.jpg", exif=exif)
    assert folder.open("t").size == (10, 20)


def test_best_rows_go_by_score_times_area() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 2, 2], [0, 0, 20, 10], [0, 0, 10, 10]], np.float32)
    assert best_rows(boxes, np.array([0.5, 0.9, 0.5, 0.5]), 3).tolist() == [2, 0, 3]


def test_crops_are_widened_and_cut_at_the_edges() -> None:
    picture = Image.new("RGB", (70, 50))
    boxes = np.array([[10, 10, 30, 20], [60, 40, 70, 50], [5, 5, 5, 5], [69.9, 49.9, 70, 50]], np.float32)
    found = PictureBoxes("a", (70, 50), boxes, ("x",) * 4, (1.0,) * 4)
    sizes = [crop.size for crop in crop_boxes(picture, found, 4, 0.1)]
    assert sizes == [(24, 12), (11, 11), (1, 1), (1, 1)]
    with pytest.raises(VisionError, match="detect regions again"):
        list(crop_boxes(Image.new("RGB", (9, 9)), found, 4))


def test_store_holds_what_was_encoded(folder: PictureFolder, tower: Tower, tmp_path: Path) -> None:
    rows = [some_boxes(name, n) for n, name in enumerate("abcde")]
    boxes = write_boxes(tmp_path / "boxes.jsonl", rows)
    store, report = encode_regions(tower, folder, boxes, tmp_path / "store", regions=3, batch=2)
    assert (report.pictures, report.boxes, len(store)) == (5, 9, 5)
    assert (store.rows, store.width, store.encoder) == (3, 16, tower.fingerprint)
    assert store.detector == DetectorRecord("abc", margin=0.05)
    assert [store.get(name).count for name in "abcde"] == [0, 1, 2, 3, 3]
    one = store.get("c")
    crops = torch.stack([tower.preprocess(c) for c in crop_boxes(folder.open("c"), rows[2], 3)])
    np.testing.assert_allclose(one.features[:2], tower(crops).detach().numpy(), atol=2e-3)
    assert one.features.dtype == np.float16
    assert not one.features[2:].any()
    np.testing.assert_allclose(one.boxes, rows[2].boxes, atol=0.01)
    assert one.size == (70, 50)
    with pytest.raises(VisionError, match="'zz' has no region features"):
        store.get("zz")
    store.verify()
    assert pickle.loads(pickle.dumps(store)).get("c").count == 2
    with pytest.raises(VisionError, match="exists already"):
        encode_regions(tower, folder, boxes, tmp_path / "store")


def test_padding_in_the_file_never_leaks(tmp_path: Path) -> None:
    writer = RegionStoreWriter(
        tmp_path / "s", [some_boxes("a", 1)], rows=3, width=4, plan={"detector": "d", "encoder": "e"}
    )
    writer.add([np.ones((1, 4))])
    writer.finish()
    features = np.load(tmp_path / "s" / "features.npy", mmap_mode="r+")
    features[0, 1:] = np.nan
    features.flush()
    got = RegionStore.open(tmp_path / "s").get("a").features
    assert got.tolist() == [[1.0] * 4, [0.0] * 4, [0.0] * 4]
    with pytest.raises(VisionError, match="damaged"):
        RegionStore.open(tmp_path / "s").verify()


@pytest.mark.parametrize("bad", [7e4, -1e9, np.inf, np.nan])
def test_features_beyond_float16_are_refused_before_their_chunk_is_done(bad: float, tmp_path: Path) -> None:
    pictures, plan = [some_boxes(name, 1) for name in "abc"], {"detector": "d", "encoder": "e"}
    writer = RegionStoreWriter(tmp_path / "s", pictures, rows=3, width=4, plan=plan)
    writer.add([np.full((1, 4), 65504.0, np.float32)])
    chunk = [np.ones((1, 4), np.float32), np.array([[1, bad, 1, 1]], np.float32)]
    with pytest.raises(
        VisionError, match=r"picture 'c' has a region feature of \S+, a region store holds finite"
    ):
        writer.add(chunk)
    assert writer.done == 1
    again = RegionStoreWriter(tmp_path / "s", pictures, rows=3, width=4, plan=plan)
    assert again.done == 1
    again.add([chunk[0], chunk[0]])
    store = again.finish()
    assert [store.get(name).features.max() for name in "abc"] == [65504.0, 1.0, 1.0]


def test_interrupted_encoding_goes_on(folder: PictureFolder, tower: Tower, tmp_path: Path) -> None:
    boxes = write_boxes(tmp_path / "boxes.jsonl", [some_boxes(name, 2) for name in "abcde"])
    whole, _ = encode_regions(tower, folder, boxes, tmp_path / "whole", regions=2, batch=2)
    kept = (folder.folder / "d.jpeg").read_bytes()
    (folder.folder / "d.jpeg").unlink()
    with pytest.raises(VisionError, match="'d' is not in"):
        encode_regions(tower, folder, boxes, tmp_path / "store", regions=2, batch=2)
    with pytest.raises(VisionError, match="run the same command again"):
        RegionStore.open(tmp_path / "store")
    (folder.folder / "d.jpeg").write_bytes(kept)
    store, report = encode_regions(tower, folder, boxes, tmp_path / "store", regions=2, batch=2)
    assert (report.resumed, report.pictures) == (3, 2)
    for name in "abcde":
        np.testing.assert_array_equal(store.get(name).features, whole.get(name).features)
    shutil.copytree(tmp_path / "store", tmp_path / "cut")
    data = (tmp_path / "cut" / "features.npy").read_bytes()
    for left in (len(data) - 10, 0):
        (tmp_path / "cut" / "features.npy").write_bytes(data[:left])
        with pytest.raises(VisionError, match="is damaged"):
            RegionStore.open(tmp_path / "cut")


def test_skip_missing_leaves_pictures_out_of_the_store(
    folder: PictureFolder, tower: Tower, tmp_path: Path
) -> None:
    boxes = write_boxes(tmp_path / "boxes.jsonl", [some_boxes(name, 1) for name in "abcde"])
    (folder.folder / "b.JPG").write_bytes(b"junk")
    store, report = encode_regions(tower, folder, boxes, tmp_path / "store", batch=2, skip_missing=True)
    assert list(report.skipped) == ["b"]
    assert store.image_ids == ["a", "c", "d", "e"]
    assert store.get("c").features[0].any()
    with pytest.raises(VisionError, match="'b' has no region features"):
        store.get("b")


def test_the_commands(
    folder: PictureFolder, tower: Tower, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("ultralytics")
    import argparse

    (tmp_path / "tinyn.yaml").write_text(TINY_YOLO)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    images, boxes, store = str(folder.folder), str(tmp_path / "boxes.jsonl"), str(tmp_path / "store")
    weights = str(tmp_path / "tinyn.yaml")
    detect = ["detect", images, "--weights", weights, "-o", boxes, "--image-size", "64", "--confidence", "0"]
    assert run(parser.parse_args([*detect, "--regions", "2", "--preview", "2"])) == 0
    assert "5 pictures" in capsys.readouterr().out
    assert len(list(Path(f"{boxes}.preview").glob("*.jpg"))) == 2
    encode = ["encode", images, boxes, "-o", store, "--config", str(tmp_path / "vit.json"), "--regions", "2"]
    encode += ["--weights", "random"]
    assert run(parser.parse_args(encode)) == 0
    assert "width 16" in capsys.readouterr().out
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"query_id": "1", "question": "x", "image": "missing"}\n')
    with pytest.raises(VisionError, match="'missing'"):
        run(parser.parse_args([*detect, "--queries", str(queries)]))
    assert run(parser.parse_args([*detect, "--queries", str(queries), "--skip-missing"])) == 0
    assert "skipped" in capsys.readouterr().err


@pytest.mark.shared
def test_coco_yolo_sees_a_real_photo(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    pictures = PictureFolder(shared_data / "okvqa" / "images")
    detector = Detector(DetectorConfig(str(shared_data / "yolo" / "yolov8n_coco.pt"), image_size=320))
    report = detect_regions(detector, pictures, tmp_path / "b.jsonl", image_ids=pictures.ids()[:1])
    _, found = read_boxes(tmp_path / "b.jsonl")
    assert report.pictures == 1
    assert "airplane" in found[0].classes


def test_a_picture_hidden_by_another_of_its_name_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one.png", "two.png", "two.jpg"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    assert PictureFolder(tmp_path).ids() == ["one", "two"]
    (said,) = caplog.messages
    assert said.startswith(
        f"1 pictures in {tmp_path} are left out, as another has the same name, such as two.png;"
    )
    caplog.clear()
    (tmp_path / "two.png").unlink()
    assert PictureFolder(tmp_path).ids() == ["one", "two"]
    assert not caplog.messages


def test_an_image_id_may_have_a_file_suffix(tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "trip").mkdir(parents=True)
    for name in (
        "holiday.png",
        "trip/beach.WEBP",
        "two.png",
        "two.webp",
        "odd.jpg.png",
        "odd.png",
        "v1.5.png",
        "both.jpg",
        "both.jpg.png",
    ):
        Image.new("RGB", (4, 4)).save(images / name)
    folder = PictureFolder(images)
    for image_id, name in [
        ("holiday.jpg", "holiday.png"),
        ("holiday.png", "holiday.png"),
        ("trip/beach.jpeg", "trip/beach.WEBP"),
        ("two", "two.png"),
        ("two.webp", "two.webp"),
        ("odd.jpg", "odd.jpg.png"),
        ("odd.webp", "odd.png"),
        ("both.jpg", "both.jpg"),
        ("both", "both.jpg"),
        ("v1.5", "v1.5.png"),
        ("v1.5.jpg", "v1.5.png"),
    ]:
        assert folder.path(image_id) == images / name
        assert image_id in folder
    with pytest.raises(
        VisionError, match=r"'two\.jpg' is not in .*'two' is ambiguous there: two\.png or two\.webp"
    ):
        folder.path("two.jpg")
    for absent in ("holiday.txt", "none.jpg", "../images/holiday.jpg", ".jpg"):
        assert absent not in folder
        with pytest.raises(VisionError, match="is not in"):
            folder.path(absent)
    rows = [some_boxes(name, n) for n, name in enumerate(["holiday", "odd.jpg", "odd", "trip/beach"])]
    writer = RegionStoreWriter(tmp_path / "s", rows, rows=3, width=4, plan={"detector": "d", "encoder": "e"})
    writer.add([np.full((len(row.boxes), 4), n) for n, row in enumerate(rows)])
    store = writer.finish()
    for image_id, count in [
        ("holiday.jpg", 0),
        ("odd.jpg", 1),
        ("odd.png", 2),
        ("odd", 2),
        ("trip/beach.PNG", 3),
    ]:
        assert image_id in store
        assert store.get(image_id).count == count
    for absent in ("holiday.txt", "none.jpg", "beach.png"):
        assert absent not in store
        with pytest.raises(VisionError, match=f"'{absent}' has no region features"):
            store.get(absent)


def test_a_store_of_other_boxes_or_settings_is_refused(
    folder: PictureFolder, tower: Tower, tmp_path: Path
) -> None:
    boxes = write_boxes(tmp_path / "boxes.jsonl", [some_boxes(name, 2) for name in "abc"])
    other = tmp_path / "other.jsonl"
    writer = BoxesWriter(other, {"detector": "xyz"})
    writer.add([some_boxes(name, 2) for name in "abc"])
    writer.finish()
    moved = write_boxes(tmp_path / "moved.jsonl", [some_boxes(name, 3) for name in "abc"])
    kept = (folder.folder / "c.webp").read_bytes()
    (folder.folder / "c.webp").unlink()
    with pytest.raises(VisionError, match="'c' is not in"):
        encode_regions(tower, folder, boxes, tmp_path / "store", regions=2, batch=1)
    (folder.folder / "c.webp").write_bytes(kept)

    def encode(path: Path, **changes: float) -> None:
        encode_regions(tower, folder, path, tmp_path / "store", **({"regions": 2, "margin": 0.05} | changes))

    interrupted = r"the interrupted region store \S+store\.part was made with "
    finished = r"store exists already and was made with "
    for state in (interrupted, finished):
        with pytest.raises(VisionError, match=f"{state}the margin 0.05 instead of 0.1; delete it"):
            encode(boxes, margin=0.1)
        with pytest.raises(
            VisionError, match=f"{state}boxes of another detector or of other detector settings;"
        ):
            encode(other)
        with pytest.raises(VisionError, match=rf"{state}the shape \[3, 2, 16\] instead of \[3, 3, 16\]"):
            encode(boxes, regions=3)
        if state is interrupted:
            with pytest.raises(VisionError, match=f"{state}other boxes;"):
                encode(moved)
            encode(boxes)
    with pytest.raises(VisionError, match=r"store exists already; delete it"):
        encode(boxes)
