"""`gemkr regions detect|rois|encode`: from a folder of pictures to a region store."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gemkr.cli.numbers import natural, not_negative, positive, share

if TYPE_CHECKING:
    from gemkr.vision.pictures import PictureFolder
    from gemkr.vision.regions import Report

HELP = "find regions in pictures and encode them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    detect = commands.add_parser("detect", help="YOLO boxes of every picture in a folder, as jsonl")
    detect.add_argument(
        "images",
        metavar="IMAGES",
        help="folder of pictures named <image id>.jpg, .png, .webp, .gif, .tiff ...",
    )
    detect.add_argument(
        "--weights", required=True, help="an ultralytics .pt file (or a model .yaml: random weights)"
    )
    detect.add_argument(
        "-o", "--output", required=True, metavar="BOXES.jsonl", help="the file of boxes to write"
    )
    detect.add_argument("--queries", metavar="FILE", help="only the pictures that these queries name")
    detect.add_argument("--regions", type=positive, default=10, help="most boxes per picture (default 10)")
    detect.add_argument("--confidence", type=share, default=0.1, help="least score of a box (default 0.1)")
    detect.add_argument(
        "--overlap", type=share, default=0.6, help="IoU of the class-agnostic NMS (default 0.6)"
    )
    detect.add_argument("--image-size", type=positive, default=640, help="side in pixels (default 640)")
    detect.add_argument("--batch", type=positive, default=8, help="pictures between two saves (default 8)")
    detect.add_argument(
        "--preview", type=natural, default=0, metavar="N", help="draw the boxes of N pictures"
    )
    detect.add_argument("--preview-dir", metavar="FOLDER", help="where to (default: BOXES.preview)")
    rois = commands.add_parser(
        "rois", help="the boxes that FLMR's data sets name (the column ROIs), as jsonl"
    )
    rois.add_argument("queries", metavar="QUERIES", help="jsonl or parquet with img_path and ROIs")
    rois.add_argument("images", metavar="IMAGES", help="the folder of their pictures")
    rois.add_argument(
        "-o", "--output", required=True, metavar="BOXES.jsonl", help="the file of boxes to write"
    )
    encode = commands.add_parser("encode", help="CLIP features of the boxes, as a memory-mapped store")
    encode.add_argument("images", metavar="IMAGES", help="the folder that the boxes were found in")
    encode.add_argument("boxes", metavar="BOXES.jsonl", help="from `gemkr regions detect`")
    encode.add_argument(
        "-o", "--output", required=True, metavar="STORE", help="a folder that does not exist yet"
    )
    encode.add_argument("--tower", default="ViT-L-14", help="open_clip architecture (default ViT-L-14)")
    encode.add_argument("--config", help="an open_clip json configuration of your own, instead of --tower")
    encode.add_argument(
        "--weights", required=True, help="local open_clip weights; the word random, to try things without any"
    )
    encode.add_argument(
        "--depth", type=positive, help="end the tower after so many blocks (the model's tower.depth)"
    )
    encode.add_argument(
        "--regions", type=positive, default=10, help="rows per picture in the store (default 10)"
    )
    encode.add_argument(
        "--margin", type=not_negative, default=0.05, help="crop margin, share of the box (default 0.05)"
    )
    encode.add_argument("--batch", type=positive, default=32, help="crops between two saves (default 32)")
    for command in (detect, encode):
        command.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ... (default cpu)")
        command.add_argument("--skip-missing", action="store_true", help="skip missing or corrupt pictures")


def run(args: argparse.Namespace) -> int:
    from gemkr.vision.device import require_device
    from gemkr.vision.pictures import PictureFolder

    if args.action == "rois":
        from gemkr.cli.output import require_writable
        from gemkr.vision.rois import write_rois

        require_writable(args.output, args.queries)
        count, boxes = write_rois(
            args.queries, PictureFolder(args.images, way_out="take its row out"), args.output
        )
        print(f"{count} pictures, {boxes} boxes -> {args.output}")
        return 0
    require_device(args.device)
    pictures = PictureFolder(args.images, way_out="skip it with --skip-missing")
    return _detect(args, pictures) if args.action == "detect" else _encode(args, pictures)


def _detect(args: argparse.Namespace, pictures: PictureFolder) -> int:
    from gemkr.cli.output import require_writable
    from gemkr.vision.config import DetectorConfig
    from gemkr.vision.detect import Detector
    from gemkr.vision.regions import detect_regions

    require_writable(args.output, args.weights, args.queries)
    folder = Path(args.preview_dir or f"{args.output}.preview")
    if args.preview:
        require_writable(folder / "picture.jpg")
    config = DetectorConfig(args.weights, args.regions, args.confidence, args.overlap, args.image_size)
    detector = Detector(config, args.device)
    ids = _image_ids(args.queries) if args.queries else None
    report = detect_regions(
        detector, pictures, args.output, image_ids=ids, batch=args.batch, skip_missing=args.skip_missing
    )
    _print(report, args.output)
    if args.preview:
        print(
            f"{_preview(args.output, pictures, args.preview, folder)} pictures with boxes drawn in {folder}"
        )
    return 0


def _encode(args: argparse.Namespace, pictures: PictureFolder) -> int:
    from gemkr.vision.config import TowerConfig
    from gemkr.vision.encode import load_tower
    from gemkr.vision.regions import encode_regions

    weights = None if args.weights == "random" else args.weights
    tower = load_tower(TowerConfig(args.tower, args.config, weights, args.depth))
    store, report = encode_regions(
        tower,
        pictures,
        args.boxes,
        args.output,
        regions=args.regions,
        margin=args.margin,
        batch=args.batch,
        device=args.device,
        skip_missing=args.skip_missing,
    )
    _print(report, args.output)
    print(f"{len(store)} pictures, up to {store.rows} regions each, width {store.width}")
    return 0


def _print(report: Report, output: str) -> None:
    for reason in report.skipped.values():
        print(f"skipped: {reason}", file=sys.stderr)
    print(
        f"{report.pictures} pictures, {report.boxes} boxes, {report.seconds:.1f} s, "
        f"{report.pictures_per_second:.2f} pictures/s, {report.resumed} were there already, "
        f"{len(report.skipped)} skipped -> {output}"
    )


def _image_ids(queries: str) -> list[str]:
    from gemkr.data.queries import read_queries

    return list(dict.fromkeys(q.image for q in read_queries(queries) if q.image is not None))


def _preview(boxes: str, pictures: PictureFolder, wanted: int, folder: Path) -> int:
    """Draw the boxes of `wanted` pictures, evenly spread over the file."""
    from gemkr.vision.boxes import read_boxes
    from gemkr.vision.draw import draw_boxes

    _, found = read_boxes(boxes)
    chosen = found[:: max(1, len(found) // wanted)][:wanted]
    for one in chosen:
        labels = [f"{name} {score:.2f}" for name, score in zip(one.classes, one.scores, strict=True)]
        drawn = draw_boxes(pictures.open(one.image), one.boxes, labels)
        drawn.save(folder / f"{one.image.replace('/', '_')}.jpg", quality=90)
    return len(chosen)
