"""Regions that FLMR's data sets name become a boxes file; what lies outside of its picture is refused by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_pictures import save_pictures

from gemkr.cli import main
from gemkr.vision.boxes import read_boxes


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_regions_of_a_table_become_boxes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save_pictures(tmp_path / "images", ["one", "two"])
    rows = [
        {
            "question_id": "a",
            "img_path": "one.png",
            "ROIs": ["one|||traffic_light_2_3_10_20", "one|||cat_0_0_24_32"],
        },
        {"question_id": "b", "img_path": "two.png", "ROIs": []},
        {"question_id": "c", "img_path": "one.png", "ROIs": ["one|||dog_1_1_2_2"]},
        {"question_id": "d", "question": "no picture"},
    ]
    table, output = write(tmp_path / "rows.jsonl", *rows), tmp_path / "boxes.jsonl"
    assert main(["regions", "rois", str(table), str(tmp_path / "images"), "-o", str(output)]) == 0
    assert "2 pictures, 2 boxes" in capsys.readouterr().out
    header, found = read_boxes(output)
    assert header["rois"] == "rows.jsonl"
    assert [one.image for one in found] == ["one.png", "two.png"]
    assert found[0].classes == ("traffic_light", "cat")
    assert found[0].boxes.tolist() == [[2, 3, 10, 20], [0, 0, 24, 32]]
    assert found[1].boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"ROIs": ["cat_30_0_40_9"]},
            "rows.jsonl:1: the region (30, 0, 40, 9) of the picture 'one' lies outside of its 24x32 pixels",
        ),
        ({"ROIs": ["cat_5_5_5_9"]}, "the region (5, 5, 5, 9) of the picture 'one' lies outside"),
        ({"ROIs": ["cat_nan_1_9_9"]}, "the region (nan, 1, 9, 9) of the picture 'one' lies outside"),
        ({"ROIs": ["cat_1_1_inf_9"]}, "the region (1, 1, inf, 9) of the picture 'one' lies outside"),
        ({"ROIs": ["cat_1_2_3"]}, "is not of the form img|||class_xmin_ymin_xmax_ymax; correct it"),
        ({}, "has no row with a picture and ROIs"),
        ({"img_path": "three", "ROIs": []}, "the picture 'three' is not in"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture, row: dict, message: str) -> None:
    save_pictures(tmp_path / "images", ["one"])
    table = write(tmp_path / "rows.jsonl", {"img_path": "one"} | row)
    assert (
        main(["regions", "rois", str(table), str(tmp_path / "images"), "-o", str(tmp_path / "b.jsonl")]) == 1
    )
    assert message in capsys.readouterr().err
