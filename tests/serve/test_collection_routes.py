"""Documents added and deleted over HTTP: found at once, gone at once, and no question in between is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serve.browser import Watched, chromium
from serve.live import listening
from serve.tiny_service import write_collection

import gemkr.serve.service as service_module
from gemkr.client import Client, ServiceError
from gemkr.collection.collection import Collection
from gemkr.config.files import load_config
from gemkr.errors import DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.pools import read_pools
from gemkr.serve.refusals import RefusedError
from gemkr.serve.service import Service
from gemkr.sources import Sources
from gemkr.types import Document

NEW = Document("kiosk/1", "The kiosk by the pier opens at nine <b>sharp</b>.")


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(load_config(write_collection(tmp_path), EvalConfig))


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    with listening(service, key="k") as url:
        yield url


def found(client: Client, question: str = "When does the kiosk open?") -> list[str]:
    return [hit.document.doc_id for hit in client.ask(question, retriever="bm25").hits]


def test_a_passage_is_found_once_it_was_added_and_gone_once_it_was_deleted(url: str) -> None:
    client = Client(url, key="k")
    before = client.following("The kiosk")
    assert (before["count"], NEW.doc_id in found(client)) == (0, False)
    assert client.add([NEW]) == {"documents": 9, "generation": 2}
    assert found(client)[0] == NEW.doc_id
    assert client.document(NEW.doc_id) == NEW
    assert client.following("The kiosk")["doc_ids"] == [NEW.doc_id]
    with pytest.raises(ServiceError, match="kiosk/1"):
        client.add([NEW])
    assert client.delete([NEW.doc_id])["documents"] == 8
    assert NEW.doc_id not in found(client)
    assert client.following("The kiosk")["count"] == 0
    with pytest.raises(ServiceError, match="holds no document 'kiosk/1'") as error:
        client.delete([NEW.doc_id])
    assert error.value.status == 404
    with pytest.raises(ServiceError, match="no document"):
        client.document(NEW.doc_id)
    with pytest.raises(ServiceError, match="writing needs the service's key"):
        Client(url, key="wrong").delete(["d0"])


def test_a_passage_is_updated_in_its_place_or_named(url: str) -> None:
    client = Client(url, key="k")
    client.add([NEW])
    changed = Document(NEW.doc_id, "The zebra by the pier sleeps.", "Zebras")
    assert client.update([changed, Document("d0", "The Seine")]) == {"documents": 9, "generation": 3}
    assert client.document(NEW.doc_id) == changed
    assert found(client, "Where does the zebra sleep?")[0] == NEW.doc_id
    assert client.following("The kiosk")["count"] == 0
    with pytest.raises(ServiceError, match="holds no document 'd99'; nothing was updated") as error:
        client.update([Document("d0", "x"), Document("d99", "y")])
    assert error.value.status == 404
    with pytest.raises(ServiceError, match="'d0' is given twice"):
        client.update([Document("d0", "x"), Document("d0", "y")])
    assert client.document("d0") == Document("d0", "The Seine")
    with pytest.raises(ServiceError, match="writing needs the service's key"):
        Client(url, key="wrong").update([changed])
    with pytest.raises(ServiceError, match="no retriever of this service uses pictures; leave image out"):
        client.update([Document("d0", "x", image="flag")])
    with pytest.raises(ServiceError, match="a document needs a text, or the id of a picture"):
        client.add([Document("new", "")])


def test_an_update_keeps_a_picture_that_this_service_does_not_use(url: str, service: Service) -> None:
    Collection.open(service.config.corpus).add([Document("seen", "A kiosk.", image="elsewhere")])
    client = Client(url, key="k")
    changed = Document("seen", "A red kiosk.", image="elsewhere")
    assert client.update([changed])["documents"] == 9
    assert client.document("seen") == changed


def test_after_the_last_passage_is_deleted_none_is_found_until_one_is_added(
    url: str, service: Service
) -> None:
    client = Client(url, key="k")
    assert service.collection is not None
    everything = list(service.collection.documents.doc_ids)
    assert client.delete(everything)["documents"] == 0
    assert found(client, "Where is the owl?") == []
    with pytest.raises(ServiceError, match="gemkr collection add"):
        client.ask("Where is the owl?", retriever="tiny")
    with pytest.raises(ServiceError, match="no document"):
        client.document(everything[0])
    assert client.add([NEW])["documents"] == 1
    assert found(client) == [NEW.doc_id]


def test_what_other_processes_do_is_followed(url: str, service: Service) -> None:
    other = Collection.open(service.config.corpus)
    other.add([NEW])
    other.compact()
    service.follow()
    client = Client(url)
    assert found(client)[0] == NEW.doc_id
    other.delete([NEW.doc_id])
    for _ in range(100):  # the service looks once a second
        if NEW.doc_id not in found(client):
            break
        threading.Event().wait(0.1)
    assert NEW.doc_id not in found(client)


def test_segments_are_merged_beside_the_service(url: str, service: Service) -> None:
    client = Client(url, key="k")
    assert service.collection is not None
    gone = list(service.collection.documents.doc_ids)[4:]
    assert client.delete(gone) == {"documents": 4, "generation": 2}
    process = service._merges.process
    assert process is not None
    process.join(60)
    assert process.exitcode == 0
    service.follow()
    info = service.collection.info()
    assert (info["generation"], info["documents"], info["deleted"]) == (3, 4, 0)
    assert found(client, "Where does the Seine flow?") == ["d0"]
    assert client.add([NEW])["documents"] == 5
    assert service._merges.process is process, "nothing is due"


def test_no_merge_begins_where_the_settings_forbid_it(tmp_path: Path) -> None:
    service = Service(load_config(write_collection(tmp_path), EvalConfig, ["serve.merge_gb=0"]))
    assert service.collection is not None
    service.delete(list(service.collection.documents.doc_ids)[:4])
    assert (service.collection.due, service._merges.process) == (True, None)


def test_a_change_that_could_not_be_followed_is_tried_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    Collection.open(service.config.corpus).add([NEW])

    def broken(*_: object) -> None:
        raise DataError("a file is being copied; wait")

    with monkeypatch.context() as patch:
        patch.setattr(service_module, "Edition", broken)
        with pytest.raises(RefusedError, match=r"is being copied.*answer as before"):
            service.follow()
    assert NEW.doc_id not in service.edition.documents
    service.follow()
    assert NEW.doc_id in service.edition.documents


def test_a_change_while_the_service_loads_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_collection(tmp_path)
    (tmp_path / "some.txt").write_text("d0\n")
    config = load_config(path, EvalConfig, ["pools={some: " + str(tmp_path / "some.txt") + "}"])

    def changed(*given: Any) -> Any:
        Collection.open(config.corpus).add([NEW])
        return read_pools(*given)

    monkeypatch.setattr(service_module, "read_pools", changed)
    service = Service(config)
    service.follow()
    assert NEW.doc_id in service.edition.documents


def test_encoders_are_not_loaded_again_when_documents_change(tmp_path: Path) -> None:
    class Made:
        def __init__(self, config: object, sources: object) -> None: ...

    class Encoder(Made):
        def encode_documents(self, documents: object) -> None: ...

    sources = Sources(load_config(write_collection(tmp_path), EvalConfig).corpus, {})
    sections = [SimpleNamespace(cls=cls, config=1, build=partial(cls, 1)) for cls in (Made, Encoder)]
    before = [sources.part(section) for section in sections]
    renewed = sources.renewed()
    assert [renewed.part(section) is old for section, old in zip(sections, before, strict=True)] == [
        False,
        True,
    ]


def test_questions_are_answered_while_the_collection_changes(url: str, service: Service) -> None:
    client, stop, wrong = Client(url, key="k"), threading.Event(), []
    there = {name: client.ask("Giraffes", retriever=name).hits[0] for name in ("bm25", "tiny")}

    def ask(name: str) -> None:
        while not stop.is_set():
            try:
                hits = client.ask("Giraffes", retriever=name).hits
                if not hits or (name == "bm25" and hits[0].document != there[name].document):
                    wrong.append(hits)
            except ServiceError as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("bm25", "tiny", "tiny")]
    for thread in threads:
        thread.start()
    for number in range(6):
        client.add([Document(f"n{number}", f"Note number {number} of the kiosk.")])
        if number % 2:
            client.delete([f"n{number - 1}"])
            Collection.open(service.config.corpus).compact()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert {"n1", "n3", "n5"} <= set(found(client, "note of the kiosk"))


def test_on_the_page_a_passage_is_added_found_deleted_and_not_found(url: str) -> None:
    with chromium() as browser:
        watched = Watched(browser, url)
        page = watched.open("/?q=When+does+the+kiosk+open%3F")
        watched.answered()
        page.fill("#key", "wrong")
        page.fill("#note-id", NEW.doc_id)
        page.fill("#note-text", NEW.text)
        page.click("#add")
        page.get_by_text("writing needs the service's key").wait_for()
        page.fill("#key", "k")
        page.click("#add")
        page.get_by_text("the collection holds 9 passages").wait_for()
        page.locator(".doc").first.get_by_text(NEW.text).wait_for()
        page.get_by_label(f"delete {NEW.doc_id}").click()
        page.get_by_text("the collection holds 8 passages").wait_for()
        page.locator(".answer p", has_text=NEW.text).wait_for(state="detached")
        watched.answered()
        assert NEW.text not in page.locator("#answers").inner_text()
        page.context.close()
    assert watched.faults == []
