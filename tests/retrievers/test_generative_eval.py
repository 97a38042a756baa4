"""`gemkr eval` with a generative retriever, and every way in which its parts may not belong together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from generative_material import TEXTS, build_index

from gemkr.cli import main
from gemkr.collection.collection import Collection
from gemkr.config.files import load_config
from gemkr.data.corpus import read_corpus
from gemkr.data.records import read_records
from gemkr.errors import GemkrError
from gemkr.evaluation.config import EvalConfig
from gemkr.fm_index import FMIndex
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.network import load_gemkr
from gemkr.models.hf.config import LoraConfig
from gemkr.text.tokenizer import load_tokenizer
from gemkr.text.vocabulary import train_vocabulary
from gemkr.training.checkpoints.checkpoint import save_checkpoint
from gemkr.training.checkpoints.origin import Origin
from gemkr.training.config import LlamaConfig
from gemkr.training.pretrain import build_llama, save_llama
from gemkr.types import Document


def test_a_generative_evaluation_from_file_to_report(material: Path, tmp_path: Path) -> None:
    command = [
        "eval",
        str(material / "eval.yaml"),
        f"output={tmp_path}",
        "evaluate=[gemkr, bm25, free_text, random_in_span, coverage_alone, same]",
    ]
    assert main(command) == 0
    tokenizer = load_tokenizer(material / "t.model")
    rankings = list(read_records(tmp_path / "gemkr" / "run.jsonl"))
    assert [ranking.query_id for ranking in rankings] == ["0", "1", "2"]
    index = FMIndex.load(material / "corpus.fmi")
    for ranking in rankings:
        assert ranking.clues
        for clue in ranking.clues:
            assert index.search(clue.tokens) == clue.span
        for hit in ranking.hits:
            tokens = tokenizer.encode(TEXTS[int(hit.doc_id[1:])])
            assert hit.evidence
            for each in hit.evidence:
                assert tokenizer.decode(tokens[each.start : each.stop]) == each.text
    assert 'class="clue' in (tmp_path / "report.html").read_text()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["rows"].keys() == {
        "gemkr",
        "bm25",
        "free_text",
        "random_in_span",
        "coverage_alone",
        "same",
    }
    assert metrics["rows"]["same"] == metrics["rows"]["gemkr"]
    assert metrics["clues"]["per_query"] > 1
    assert list(read_records(tmp_path / "same" / "run.jsonl")) == rankings


def test_a_collection_stands_for_corpus_and_index(material: Path, tmp_path: Path) -> None:
    """The same runs from a collection and from the files of its live documents, in their order."""
    collection = Collection.create(
        tmp_path / "c", tokenizer=material / "t.model", documents=read_corpus(material / "corpus.csv")
    )
    extra = Document("extra", "a plain tea from Kenya")
    collection.add([extra])
    collection.delete(["d2", "d5"])
    live = [d for d in [*read_corpus(material / "corpus.csv"), extra] if d.doc_id not in ("d2", "d5")]
    tokenizer = load_tokenizer(material / "t.model")
    index = FMIndex.build(
        [tokenizer.encode(d.text) for d in live], [d.doc_id for d in live], tokenizer=tokenizer
    )
    index.save(tmp_path / "live.fmi")
    rows = "".join(f'{d.doc_id},"{d.text}"\n' for d in live)
    (tmp_path / "live.csv").write_text("kid,text\n" + rows)
    runs = []
    for name, corpus, file in [
        ("ours", tmp_path / "c", tmp_path / "c"),
        ("files", tmp_path / "live.csv", tmp_path / "live.fmi"),
    ]:
        settings = [f"corpus={corpus}", f"retrievers.gemkr.index={file}", f"output={tmp_path / name}"]
        settings += ["retrievers.gemkr.decoding.max_tokens=2", "limit=1"]
        assert main(["eval", str(material / "eval.yaml"), *settings, "evaluate=[gemkr, bm25]"]) == 0
        runs.append([(tmp_path / name / each / "run.trec").read_text() for each in ("gemkr", "bm25")])
    assert runs[0] == runs[1]
    assert runs[0][0]


def test_clues_that_end_with_words_rank_anew_as_they_ranked(material: Path, tmp_path: Path) -> None:
    command = [
        "eval",
        str(material / "eval.yaml"),
        f"output={tmp_path}",
        "retrievers.gemkr.decoding.end_at_word=true",
    ]
    assert main([*command, "evaluate=[gemkr, same]"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["rows"]["same"] == metrics["rows"]["gemkr"]
    old = "retrievers.gemkr.scoring.whole_words=true"
    with pytest.raises(GemkrError, match="write end_at_word there"):
        load_config(material / "eval.yaml", EvalConfig, [old]).sources().retriever("seal")
    train_vocabulary(TEXTS * 20, tmp_path / "other.model", pieces=341)
    foreign = [*command[2:], f"retrievers.gemkr.model.tokenizer={tmp_path}/other.model"]
    config = load_config(material / "eval.yaml", EvalConfig, foreign)
    with pytest.raises(GemkrError, match="tokenizer"):
        config.sources().retriever("seal")


def with_ensemble(material: Path, folder: Path, *settings: str) -> Path:
    """The evaluation of `material` with a second model, the same but for `settings`."""
    member = ", ".join([f"llm: {material}/llm", "lora: {r: 2}", f"checkpoint: {material}/final", *settings])
    path = folder / "ensemble.yaml"
    text = (material / "eval.yaml").read_text()
    path.write_text(text.replace("    decoding:", f"    ensemble: [{{{member}}}]\n    decoding:"))
    return path


def test_an_ensemble_of_one_model_twice_is_that_model(material: Path, tmp_path: Path) -> None:
    assert main(["eval", str(material / "eval.yaml"), f"output={tmp_path}/one"]) == 0
    assert main(["eval", str(with_ensemble(material, tmp_path)), f"output={tmp_path}/two"]) == 0
    one, two = (list(read_records(tmp_path / name / "gemkr" / "run.jsonl")) for name in ("one", "two"))
    assert [[c.tokens for c in r.clues] for r in one] == [[c.tokens for c in r.clues] for r in two]


def test_an_ensemble_member_of_another_tokenizer(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train_vocabulary([text.upper() for text in TEXTS] * 20, tmp_path / "t.model", pieces=340)
    tokenizer = load_tokenizer(tmp_path / "t.model")
    size = LlamaConfig(hidden=32, layers=2, heads=2, intermediate=48, context=256)
    save_llama(build_llama(size, tokenizer), tokenizer, tmp_path / "llm")
    path = tmp_path / "ensemble.yaml"
    member = f"    ensemble: [{{llm: {tmp_path / 'llm'}, lora: {{r: 2}}}}]\n    decoding:"
    path.write_text((material / "eval.yaml").read_text().replace("    decoding:", member))
    assert main(["eval", str(path), f"output={tmp_path}/out"]) == 1
    assert f"{tmp_path / 'llm'} has another tokenizer than" in capsys.readouterr().err


def refusal(material: Path, tmp_path: Path, capsys: pytest.CaptureFixture, *overrides: str) -> str:
    """What the command says when it refuses; nothing may have been retrieved."""
    capsys.readouterr()
    assert main(["retrieve", str(material / "eval.yaml"), f"output={tmp_path}/out", *overrides]) == 1
    error = capsys.readouterr().err
    said = [line for line in error.splitlines() if line.startswith("gemkr: ")]
    assert len(said) == 1, error
    records = tmp_path / "out" / "gemkr" / "run.jsonl"
    assert not records.exists() or not records.read_text()
    return said[0]


def test_an_index_of_another_tokenizer(material: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    train_vocabulary([text.upper() for text in TEXTS] * 20, tmp_path / "other.model", pieces=330)
    build_index(tmp_path / "other.fmi", load_tokenizer(tmp_path / "other.model"), TEXTS)
    said = refusal(material, tmp_path, capsys, f"retrievers.gemkr.index={tmp_path}/other.fmi")
    assert f"the index {tmp_path}/other.fmi was built with a vocabulary of 330 tokens, not with the" in said
    assert f"the tokenizer {material}/llm" in said
    assert "which has 340; give the tokenizer that it was built with" in said


def test_an_index_with_a_wider_vocabulary(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    build_index(tmp_path / "wide.fmi", load_tokenizer(material / "t.model"), TEXTS, anonymous=True, wide=7)
    assert "a vocabulary of 347" in refusal(
        material, tmp_path, capsys, f"retrievers.gemkr.index={tmp_path}/wide.fmi"
    )


def test_an_index_of_another_corpus(material: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    build_index(tmp_path / "less.fmi", load_tokenizer(material / "t.model"), TEXTS[:5])
    said = refusal(material, tmp_path, capsys, f"retrievers.gemkr.index={tmp_path}/less.fmi")
    assert "holds 5 documents, the corpus 12" in said
    texts = [f"Once more: {text}" for text in TEXTS]
    build_index(tmp_path / "titled.fmi", load_tokenizer(material / "t.model"), texts)
    said = refusal(material, tmp_path, capsys, f"retrievers.gemkr.index={tmp_path}/titled.fmi")
    assert "has other tokens in the index than" in said


def test_an_index_that_was_built_without_bad_rows(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    corpus = tmp_path / "corpus.csv"
    corpus.write_text((material / "corpus.csv").read_text() + "bad\n")
    command = ["eval", str(material / "eval.yaml"), f"output={tmp_path}/out", f"corpus={corpus}"]
    assert main([*command, "evaluate=[gemkr, bm25]"]) == 0
    run = str(tmp_path / "out" / "gemkr" / "run.trec")
    scored = [
        "score",
        run,
        "--queries",
        f"{material}/queries.jsonl",
        "--metrics",
        "P@5",
        "--corpus",
        str(corpus),
    ]
    assert main(scored) == 0
    capsys.readouterr()
    alone = tmp_path / "alone.yaml"
    alone.write_text(
        f"queries: {material}/queries.jsonl\ncorpus: {corpus}\noutput: {tmp_path}/alone\nretrievers: {{bm25: {{kind: bm25}}}}\n"
    )
    assert main(["eval", str(alone)]) == 1
    said = capsys.readouterr().err
    assert "the row has 1 columns, the header names 2; correct or delete the row" in said
    assert "skip" not in said
    corpus.write_text("kid,text\nbad\nother,text\n")
    assert main([*command, "evaluate=[bm25]", "--restart"]) == 1
    assert "the index holds" in capsys.readouterr().err


def test_a_checkpoint_of_another_model(material: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    said = refusal(material, tmp_path, capsys, "retrievers.gemkr.model.lora.r=4")
    assert "model.lora.r = 2, this configuration has 4" in said


def test_a_checkpoint_of_another_tokenizer(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    model = load_gemkr(ModelConfig(llm=str(material / "llm"), lora=LoraConfig(r=2)))
    save_checkpoint(tmp_path / "final", Origin("gemkr", "f" * 64, "data", {}), model.trained_state())
    said = refusal(material, tmp_path, capsys, f"retrievers.gemkr.model.checkpoint={tmp_path}/final")
    assert "belongs to an LLM with the tokenizer ffffffffffff, this configuration" in said


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["retrievers.gemkr.index=null"], "index must be of type str"),
        (["retrievers.gemkr.model=null"], "model must be a mapping"),
        (
            ["retrievers.gemkr.scoring.inside_span=bm26"],
            "inside_span: the kind 'bm26' of document scorer is unknown",
        ),
        (["retrievers.gemkr.scoring.method=best"], "'best'"),
        (
            ["retrievers.gemkr.decoding.groups=3", "retrievers.gemkr.model.llm=nowhere"],
            "4 cannot be shared evenly by 3 groups",
        ),
        (["evaluate=[seal]"], "is not there; run the generative retriever 'gemkr' first"),
    ],
)
def test_missing_parts_and_unknown_names(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture, overrides: list[str], message: str
) -> None:
    assert message in refusal(material, tmp_path, capsys, *overrides)


def test_pictures_and_features_are_looked_for_first(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tower = [
        f"retrievers.gemkr.model.tower.config={material}/vit.json",
        "retrievers.gemkr.model.prefix.blocks=1",
        "retrievers.gemkr.model.checkpoint=null",
    ]
    said = refusal(material, tmp_path, capsys, *tower, f"images={material}/images")
    assert "1 of the 3 pictures of the queries are not in" in said
    assert "'p2'" in said
    store = tmp_path / "store"
    store.mkdir()
    row = {"image": "p0", "size": [48, 48], "boxes": [[1, 1, 20, 20]], "classes": ["flag"], "scores": [0.9]}
    index = {
        "format": 1,
        "detector": "d",
        "encoder": "e",
        "features_sha256": "",
        "shape": [1, 10, 16],
        "pictures": [row],
    }
    (store / "index.json").write_text(json.dumps(index))
    np.save(store / "features.npy", np.zeros((1, 10, 16), dtype=np.float16))
    shutil.copytree(material / "images", tmp_path / "images")
    shutil.copyfile(tmp_path / "images" / "p0.png", tmp_path / "images" / "p2.png")
    said = refusal(material, tmp_path, capsys, *tower, f"images={tmp_path}/images", f"regions={store}")
    assert "2 of the 3 pictures of the queries have no features" in said
