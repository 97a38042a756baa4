"""Pictures that requests bring: what is decoded, how large, how long they are kept, and which are known."""

from __future__ import annotations

import asyncio
import base64
import io
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from PIL import Image
from serve.tiny_service import LOCAL
from starlette.requests import Request
from starlette.testclient import TestClient
from tiny_pictures import WORDS, save_pictures, save_tiny_clip

from gemkr.config.files import load_config
from gemkr.errors import VisionError
from gemkr.evaluation.config import EvalConfig
from gemkr.serve.app import create_app
from gemkr.serve.asking import Asking
from gemkr.serve.metrics import Metrics
from gemkr.serve.pictures import PictureDesk
from gemkr.serve.refusals import BusyError, RefusedError
from gemkr.serve.requests import Question
from gemkr.serve.service import Service
from gemkr.vision.online import OnlinePictures


def encoded(size: tuple[int, int] = (40, 30), colour: str = "red", kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind)
    return out.getvalue()


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of a few bytes that claims to have 3.6 gigapixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


@pytest.fixture
def desk(tmp_path: Path) -> PictureDesk:
    folder = save_pictures(tmp_path / "pictures", ["one", "two"])
    return PictureDesk(OnlinePictures(None, folder), most_pixels=2_000, kept_pixels=5_000)


def test_pictures_stay_while_they_are_held_and_leave_when_others_need_the_room(desk: PictureDesk) -> None:
    with desk.given(encoded(colour="red")) as red:
        for colour in ("green", "blue", "white", "black", "pink"):
            with desk.given(encoded(colour=colour)) as last:
                assert desk.describe(last) == {"id": last, "width": 40, "height": 30, "boxes": []}
        with desk.known(red) as again:
            assert again == red
    with desk.known(last):
        pass
    assert sum(desk.online.given(one) is not None for one in desk._kept) == len(desk._kept) <= 4
    for colour in ("green", "blue", "white", "black"):
        with desk.given(encoded(colour=colour)):
            pass
    with pytest.raises(RefusedError, match="not known here"), desk.known(red):
        pass


def test_more_than_the_memory_holds_is_refused_until_some_are_let_go(desk: PictureDesk) -> None:
    with (
        desk.given(encoded(colour="red")),
        desk.given(encoded(colour="green")),
        desk.given(encoded(colour="blue")),
    ):
        with desk.given(encoded((40, 30), "white")):
            pass
        with (
            desk.given(encoded((40, 35), "white")),
            pytest.raises(BusyError, match="too many pictures"),
            desk.given(encoded(colour="black")),
        ):
            pass
    with desk.given(encoded(colour="black")):
        pass


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF"])
def test_formats_of_photos_are_read(desk: PictureDesk, kind: str) -> None:
    with desk.given(encoded(kind=kind)) as image_id:
        assert desk.online.open(image_id).size == (40, 30)


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (b"", VisionError, "is empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", VisionError, "no picture of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", VisionError, "no picture of a known format"),
        (encoded()[:60], VisionError, "cannot be read"),
        (encoded((50, 41)), RefusedError, "has 2,050 pixels, the limit is 2,000"),
        (bomb(), RefusedError, "pixels"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_refused_in_a_sentence(
    desk: PictureDesk, data: bytes, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says), desk.given(data):
        pass
    assert not desk._kept


@pytest.mark.parametrize(
    "image_id", ["../corpus", "/etc/passwd", "three", "", "a\x00b", "x" * 5000, "pictures/../one"]
)
def test_an_id_is_never_a_path(desk: PictureDesk, image_id: str) -> None:
    with pytest.raises(RefusedError, match="not known here") as error, desk.known(image_id):
        pass
    assert error.value.status == 404
    assert len(str(error.value)) < 250


def test_the_folder_is_listed_once(desk: PictureDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert desk.samples(1) == ["one"]
    monkeypatch.setattr(desk.online.pictures, "ids", lambda: pytest.fail("listed again"))
    assert desk.samples() == ["one", "two"]


def test_a_part_is_a_picture_of_its_own(desk: PictureDesk) -> None:
    with desk.known("one") as whole:
        size = desk.online.open(whole).size
        with desk.part(whole, (0.0, 0.0, 0.5, 1.0)) as left:
            assert desk.online.open(left).size == (size[0] // 2, size[1])
        with pytest.raises(VisionError, match="draw a larger box"), desk.part(whole, (0.0, 0.0, 0.01, 1.0)):
            pass


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service whose retriever compares pictures, and documents with pictures."""
    folder = tmp_path_factory.mktemp("clip")
    names = ["one", "two", "three"]
    save_pictures(folder / "pictures", names)
    save_tiny_clip(folder / "clip", WORDS)
    (folder / "corpus.jsonl").write_text(
        "".join(f'{{"doc_id": "{n}", "text": "a photo", "image": "{n}"}}\n' for n in names)
    )
    (folder / "serve.yaml").write_text(
        "corpus: corpus.jsonl\nimages: pictures\nretrievers:\n  clip: {kind: dense, encoder: {kind: clip_sf, folder: clip}}\n"
        "serve: {most_pixels: 5000}\n"
    )
    service = Service(load_config(folder / "serve.yaml", EvalConfig))
    with TestClient(create_app(service), LOCAL) as client:
        client.service = service
        yield client


def test_a_picture_is_asked_about_by_id_in_base64_and_as_upload(client: TestClient) -> None:
    picture = client.get("/v1/images/two")
    assert picture.headers["content-type"] == "image/jpeg"
    assert set(client.get("/v1/pictures").json()) == {"one", "two", "three"}
    known = client.post("/v1/retrieve", json={"picture": "two", "k": 1}).json()["hits"]
    assert known[0]["image"]
    data = encoded((40, 40), "blue")
    given = client.post("/v1/pictures", content=data).json()
    assert client.get(f"/v1/pictures/{given['id']}").json() == given
    by_id = client.post("/v1/retrieve", json={"picture": given["id"]}).json()["hits"]
    inline = {"picture_base64": base64.b64encode(data).decode()}
    assert client.post("/v1/retrieve", json=inline).json()["hits"] == by_id
    boxed = client.post("/v1/retrieve", json=inline | {"box": [0, 0, 1, 0.5]}).json()["hits"]
    assert len(boxed) == len(by_id)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"picture": "../corpus.jsonl"}, 404, "not known here"),
        ({"picture_base64": base64.b64encode(b"GIF89a nothing").decode()}, 422, "cannot be read|no picture"),
        ({"picture_base64": base64.b64encode(bomb()).decode()}, 413, "pixels"),
        ({"picture": "one", "box": [0, 0, 0.01, 0.01]}, 422, "draw a larger box"),
    ],
)
def test_what_is_wrong_with_a_picture_is_a_problem(
    client: TestClient, body: dict, status: int, says: str
) -> None:
    import re

    answer = client.post("/v1/retrieve", json=body)
    assert answer.status_code == status
    assert re.search(says, answer.json()["detail"])


def test_a_question_cancelled_while_its_picture_is_encoded_lets_the_picture_go(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, entered, go = client.service, threading.Event(), threading.Event()
    add = service.pictures.online.add

    def slow(picture: bytes) -> str:
        entered.set()
        assert go.wait(10)
        return add(picture)

    monkeypatch.setattr(service.pictures.online, "add", slow)
    question = Question(picture_base64=base64.b64encode(encoded((31, 33), "cyan")).decode())

    async def waiting() -> dict:
        return await asyncio.Event().wait()

    async def ask() -> None:
        given, request = Asking(service, Metrics()), Request({"type": "http"}, waiting)
        with ExitStack() as stack:
            asking = asyncio.create_task(given.job(question, stack, request))
            await asyncio.to_thread(entered.wait, 10)
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking
        go.set()
        await given._encoding.do(lambda: None)

    asyncio.run(ask())
    assert [kept.held for kept in service.pictures._kept.values() if kept.pixels == 31 * 33] == [0]


def test_a_picture_that_is_only_shown_is_not_encoded(tmp_path: Path) -> None:
    folder = save_pictures(tmp_path / "pictures", ["one"])
    online = OnlinePictures(None, folder)
    online.regions = {}  # no picture has its regions stored
    desk = PictureDesk(online, most_pixels=2_000, kept_pixels=5_000)
    with desk.seen("one"):
        assert desk.jpeg("one")
    assert not desk._kept
    with desk.known("one") as given:
        assert given != "one"
    with pytest.raises(RefusedError, match="not known here"), desk.seen("two"):
        pass
