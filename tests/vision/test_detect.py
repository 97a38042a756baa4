"""Detection: a detector on pictures, the boxes file and its interruptions, boxes drawn for people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_boxes import TINY_YOLO, some_boxes, write_boxes

from gemkr.errors import VisionError
from gemkr.vision.boxes import BoxesWriter, PictureBoxes, read_boxes
from gemkr.vision.config import DetectorConfig
from gemkr.vision.detect import Detector
from gemkr.vision.draw import draw_boxes
from gemkr.vision.pictures import PictureFolder
from gemkr.vision.record import DetectorRecord
from gemkr.vision.regions import detect_regions


@pytest.fixture
def folder(tmp_path: Path) -> PictureFolder:
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.JPG", "c.webp", "d.jpeg", "e.png"):
        Image.fromarray(rng.integers(0, 255, (50, 70, 3), dtype=np.uint8)).save(images / name)
    (images / "notes.txt").write_text("no picture")
    return PictureFolder(images)


def test_detector_on_a_yaml(tmp_path: Path, folder: PictureFolder) -> None:
    pytest.importorskip("ultralytics")
    path = tmp_path / "tinyn.yaml"
    path.write_text(TINY_YOLO)
    config = DetectorConfig(str(path), regions=3, confidence=0.0, image_size=64)
    torch.manual_seed(0)
    detector = Detector(config)
    pictures = [folder.open(name) for name in "ab"]
    found = detector.detect(["a", "b"], pictures)
    assert [one.image for one in found] == ["a", "b"]
    for one in found:
        assert one.boxes.dtype == np.float32
        assert one.boxes.shape == (len(one.scores), 4)
        assert len(one.boxes) <= 3
        assert (one.boxes >= 0).all()
        assert (one.boxes <= np.array([70, 50, 70, 50])).all()
    alone = detector.detect(["b"], pictures[1:])[0]
    np.testing.assert_array_equal(alone.boxes, found[1].boxes)
    assert (alone.scores, alone.classes) == (found[1].scores, found[1].classes)
    assert detector.record == Detector(config).record
    assert detector.record.fingerprint == Detector(replace(config, margin=0.3)).record.fingerprint
    assert detector.record.fingerprint != Detector(replace(config, regions=4)).record.fingerprint
    with pytest.raises(VisionError, match="do not exist"):
        Detector(DetectorConfig(str(tmp_path / "none.pt")))
    with pytest.raises(VisionError, match="has no weights"):
        Detector(DetectorConfig())
    (tmp_path / "broken.pt").write_bytes(b"junk")
    with pytest.raises(VisionError, match="cannot be loaded"):
        Detector(DetectorConfig(str(tmp_path / "broken.pt")))


def test_boxes_file_goes_on_after_an_interruption(tmp_path: Path) -> None:
    path = tmp_path / "boxes.jsonl"
    rows = [some_boxes(name, n) for n, name in enumerate("abc")]
    writer = BoxesWriter(path, {"detector": "abc"})
    writer.add(rows[:2])
    part = path.with_name("boxes.jsonl.part")
    part.write_text(part.read_text() + '{"image": "c", "si')
    again = BoxesWriter(path, {"detector": "abc"})
    assert again.done == {"a", "b"}
    assert not path.exists()
    again.add(rows[2:])
    again.finish()
    header, found = read_boxes(path)
    assert header == {"format": 1, "detector": "abc"}
    assert [one.image for one in found] == ["a", "b", "c"]
    np.testing.assert_allclose(found[2].boxes, rows[2].boxes, atol=0.01)
    BoxesWriter(path, {"detector": "abc"}).add(rows[:1])
    assert BoxesWriter(path, {"detector": "other"}).done == set()


def test_an_interrupted_detection_of_other_pictures_leaves_none_of_them(
    folder: PictureFolder, tmp_path: Path
) -> None:
    class Half:
        """Finds a box in every picture but b; `seen` are the pictures it was given."""

        record, seen = DetectorRecord("abc"), ()

        def detect(self, image_ids: list[str], pictures: list[Image.Image]) -> list[PictureBoxes]:
            self.seen = (*self.seen, *image_ids)
            if "b" in image_ids:
                raise VisionError("stop")
            return [some_boxes(name, 1) for name in image_ids]

    path = tmp_path / "boxes.jsonl"
    with pytest.raises(VisionError, match="stop"):
        detect_regions(Half(), folder, path, image_ids=["a", "c", "b"], batch=1)
    again = Half()
    report = detect_regions(again, folder, path, image_ids=["c", "d"], batch=1)
    assert (again.seen, report.resumed, report.boxes) == (("d",), 1, 1)
    assert [one.image for one in read_boxes(path)[1]] == ["c", "d"]


def test_bad_boxes_files_are_named(tmp_path: Path) -> None:
    path = write_boxes(tmp_path / "boxes.jsonl", [some_boxes("a", 1)])
    for text, message in [
        ("", r"boxes\.jsonl:1 is not valid json"),
        ('{"format": 9}\n', "no boxes file of format 1"),
        (path.read_text() + '{"image": "b"}\n', r"boxes\.jsonl:3 is no row of boxes"),
    ]:
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad" / "boxes.jsonl").write_text(text)
        with pytest.raises(VisionError, match=message):
            read_boxes(tmp_path / "bad" / "boxes.jsonl")
    with pytest.raises(VisionError, match="cannot be read"):
        read_boxes(tmp_path / "none.jsonl")


def test_drawn_boxes_change_the_picture() -> None:
    picture = Image.new("RGB", (100, 80), "white")
    drawn = draw_boxes(picture, np.array([[10, 20, 60, 70]], np.float32), ["flag 0.90"])
    assert drawn.getpixel((10, 40)) != (255, 255, 255)
    assert picture.getpixel((10, 40)) == (255, 255, 255)
