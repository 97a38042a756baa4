"""`gemkr eval` with a generative retriever, and every way in which its parts may not belong together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from gemkr.retrievers.factory import rescored_seal
from PIL import Image
from tiny_encoder import save_tiny_encoder

from benchmarks.okvqa.expert_alone import ExpertAloneRetriever
from gemkr.cli import main
from gemkr.config.files import load_config
from gemkr.data.records import read_records
from gemkr.errors import GemkrError
from gemkr.evaluation.config import EvalConfig
from gemkr.fm_index import FMIndex
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.network import load_gemkr
from gemkr.models.hf.config import LoraConfig
from gemkr.sources import Sources
from gemkr.testing import toy_corpus
from gemkr.text.tokenizer import load_tokenizer
from gemkr.text.vocabulary import train_vocabulary
from gemkr.training.checkpoints.checkpoint import save_checkpoint
from gemkr.training.checkpoints.origin import Origin
from gemkr.training.config import LlamaConfig
from gemkr.training.pretrain import build_llama, save_llama
from gemkr.types import Query

TEXTS = [document.text for document in toy_corpus()]


def build_index(path: Path, tokenizer, texts: list[str], *, anonymous: bool = False, wide: int = 0) -> None:
    index = FMIndex.build(
        [tokenizer.encode(text) for text in texts],
        [f"d{i}" for i in range(len(texts))],
        vocab_size=tokenizer.vocab_size + wide,
        tokenizer=None if anonymous else tokenizer,
    )
    index.save(path)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, its index, an LLM folder with random weights and a checkpoint; pictures of two of three queries."""
    folder = tmp_path_factory.mktemp("material")
    train_vocabulary(TEXTS * 20, folder / "t.model", pieces=340)
    tokenizer = load_tokenizer(folder / "t.model")
    size = LlamaConfig(hidden=32, layers=2, heads=2, intermediate=48, context=256)
    save_llama(build_llama(size, tokenizer), tokenizer, folder / "llm")
    (folder / "corpus.csv").write_text(
        "kid,text\n" + "".join(f'd{i},"{text}"\n' for i, text in enumerate(TEXTS))
    )
    build_index(folder / "corpus.fmi", tokenizer, TEXTS)
    rows = [
        {"query_id": str(i), "question": "What is it?", "image": f"p{i}", "answers": ["tea"]}
        for i in range(3)
    ]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "images").mkdir()
    for i in range(2):
        Image.fromarray(np.full((48, 48, 3), 90 * i, dtype=np.uint8)).save(folder / "images" / f"p{i}.png")
    vit = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 16},
    }
    (folder / "vit.json").write_text(json.dumps(vit))
    config = ModelConfig(llm=str(folder / "llm"), lora=LoraConfig(r=2))
    model = load_gemkr(config)
    settings = {"model": {"lora": {"r": 2, "alpha": 16, "dropout": 0.0, "targets": LoraConfig().targets}}}
    origin = Origin("gemkr", tokenizer.fingerprint(), "data", settings)
    save_checkpoint(folder / "final", origin, model.trained_state())
    (folder / "eval.yaml").write_text(
        f"queries: {folder}/queries.jsonl\ncorpus: {folder}/corpus.csv\nindex: {folder}/corpus.fmi\noutput: out\n"
        f"model: {{llm: {folder}/llm, lora: {{r: 2}}, checkpoint: {folder}/final}}\n"
        "decoding: {beam_size: 4, groups: 2, max_tokens: 6}\nmetrics: [P@5, S@5, D@10]\n"
    )
    return folder


def test_a_generative_evaluation_from_file_to_report(material: Path, tmp_path: Path) -> None:
    command = [
        "eval",
        str(material / "eval.yaml"),
        f"output={tmp_path}",
        "baselines=[bm25, free_text, random_in_span, coverage_alone, rescored_coverage]",
    ]
    assert main(command) == 0
    tokenizer = load_tokenizer(material / "t.model")
    rankings = list(read_records(tmp_path / "run.jsonl"))
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
        "generative",
        "bm25",
        "free_text",
        "random_in_span",
        "coverage_alone",
        "rescored_coverage",
    }
    assert metrics["rows"]["rescored_coverage"] == metrics["rows"]["generative"]
    assert metrics["clues"]["per_query"] > 1
    assert list(read_records(tmp_path / "baselines" / "rescored_coverage" / "run.jsonl")) == rankings


def test_whole_words_rank_anew_as_they_ranked(material: Path, tmp_path: Path) -> None:
    command = ["eval", str(material / "eval.yaml"), f"output={tmp_path}", "scoring.whole_words=true"]
    assert main([*command, "baselines=[rescored_coverage]"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["rows"]["rescored_coverage"] == metrics["rows"]["generative"]
    train_vocabulary(TEXTS * 20, tmp_path / "other.model", pieces=341)
    foreign = [*command[2:], f"model.tokenizer={tmp_path}/other.model"]
    config = load_config(material / "eval.yaml", EvalConfig, foreign)
    with pytest.raises(GemkrError, match="tokenizer"):
        rescored_seal(config, Sources(config))


def with_ensemble(material: Path, folder: Path, *settings: str) -> Path:
    """The evaluation of `material` with a second model, the same but for `settings`."""
    member = ", ".join([f"llm: {material}/llm", "lora: {r: 2}", f"checkpoint: {material}/final", *settings])
    path = folder / "ensemble.yaml"
    path.write_text((material / "eval.yaml").read_text() + f"ensemble:\n  - {{{member}}}\n")
    return path


def test_an_ensemble_of_one_model_twice_is_that_model(material: Path, tmp_path: Path) -> None:
    assert main(["eval", str(material / "eval.yaml"), f"output={tmp_path}/one"]) == 0
    assert main(["eval", str(with_ensemble(material, tmp_path)), f"output={tmp_path}/two"]) == 0
    one, two = (list(read_records(tmp_path / name / "run.jsonl")) for name in ("one", "two"))
    assert [[c.tokens for c in r.clues] for r in one] == [[c.tokens for c in r.clues] for r in two]


def test_an_ensemble_member_of_another_tokenizer(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train_vocabulary([text.upper() for text in TEXTS] * 20, tmp_path / "t.model", pieces=340)
    tokenizer = load_tokenizer(tmp_path / "t.model")
    size = LlamaConfig(hidden=32, layers=2, heads=2, intermediate=48, context=256)
    save_llama(build_llama(size, tokenizer), tokenizer, tmp_path / "llm")
    path = tmp_path / "ensemble.yaml"
    member = f"ensemble:\n  - {{llm: {tmp_path / 'llm'}, lora: {{r: 2}}}}\n"
    path.write_text((material / "eval.yaml").read_text() + member)
    assert main(["eval", str(path), f"output={tmp_path}/out"]) == 1
    assert f"{tmp_path / 'llm'} has another tokenizer than" in capsys.readouterr().err


def with_expert(material: Path, folder: Path, weight: float, train: str = "train.jsonl") -> Path:
    """The evaluation of `material` with an answer expert that learned from three other queries."""
    rows = [{"query_id": f"t{i}", "question": "What is it?", "answers": ["green tea"]} for i in range(3)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "expert.yaml"
    settings = f"train: {folder / train}, weight: {weight}, classifier: {{networks: 1}}"
    path.write_text((material / "eval.yaml").read_text() + f"answer_expert: {{{settings}}}\n")
    return path


def test_an_expert_writes_with_the_model(material: Path, tmp_path: Path) -> None:
    plain = ["groups=1", "diversity=0", "max_tokens=12", "length_penalty=0"]
    overrides = [f"output={tmp_path}/out", *(f"decoding.{setting}" for setting in plain)]
    assert main(["eval", str(with_expert(material, tmp_path, 0.9)), *overrides]) == 0
    best = [ranking.clues[0] for ranking in read_records(tmp_path / "out" / "run.jsonl")]
    assert [clue.text for clue in best] == ["green tea"] * len(best)
    assert all(0.9 - 1e-5 <= np.exp(clue.log_prob) <= 1 for clue in best)
    assert (tmp_path / "out" / "answer_classifier.safetensors").is_file()


def test_an_expert_over_a_text_encoder_writes_and_opposes(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    encoder = save_tiny_encoder(tmp_path / "encoder", ["what", "is", "it", "?", "green", "tea"])
    settings = f"{{encoder: {{folder: {encoder}, max_tokens: 24}}, epochs: 2}}"
    path = with_expert(material, tmp_path, 0.9)
    path.write_text(path.read_text() + f"opponents: {{train: {tmp_path}/train.jsonl, encoder: {settings}}}\n")
    overrides = ["answer_expert.encoder=${opponents.encoder}", f"output={tmp_path}/out"]
    assert main(["fit-expert", str(path), *overrides]) == 0
    assert "an expert for 1 answers" in capsys.readouterr().out
    kept = (tmp_path / "out" / "encoder_classifier.safetensors").stat().st_mtime_ns
    opponent = "baselines=[encoder_classifier_coverage]"
    assert main(["eval", str(path), *overrides, opponent, "decoding.groups=1", "decoding.max_tokens=12"]) == 0
    assert all("green tea" in {c.text for c in r.clues} for r in read_records(tmp_path / "out" / "run.jsonl"))
    assert (tmp_path / "out" / "encoder_classifier.safetensors").stat().st_mtime_ns == kept
    assert main(["fit-expert", str(material / "eval.yaml")]) == 1
    assert "has no answer expert to learn" in capsys.readouterr().err
    assert (tmp_path / "out" / "baselines" / "encoder_classifier_coverage" / "run.jsonl").is_file()
    assert main(["eval", str(path), f"output={tmp_path}/none", "opponents.encoder=null", opponent]) == 1
    assert "encoder_classifier_coverage needs a text encoder" in capsys.readouterr().err


def test_the_expert_alone_is_ranked_as_the_models_are(material: Path, tmp_path: Path, capsys) -> None:
    path = with_expert(material, tmp_path, 0.9)
    assert main(["eval", str(path), f"output={tmp_path}/out", "baselines=[expert_alone]"]) == 0
    rows = json.loads((tmp_path / "out" / "metrics.json").read_text())["rows"]
    assert rows.keys() == {"generative", "expert_alone"}
    rankings = list(read_records(tmp_path / "out" / "baselines" / "expert_alone" / "run.jsonl"))
    for ranking in rankings:
        (clue,) = ranking.clues
        assert (clue.text, clue.log_prob) == ("green tea", 0.0)
        assert ranking.hits
        assert all(hit.evidence[0].text == "green tea" for hit in ranking.hits)
    assert (
        main(["eval", str(material / "eval.yaml"), f"output={tmp_path}/none", "baselines=[expert_alone]"])
        == 1
    )
    assert "expert_alone needs an answer expert; add the section 'answer_expert'" in capsys.readouterr().err


def test_the_expert_alone_counts_spellings_once_and_passes_over_what_the_corpus_lacks(
    material: Path,
) -> None:
    tokenizer, index = load_tokenizer(material / "t.model"), FMIndex.load(material / "corpus.fmi")

    class Fixed:
        def guess(self, query: Query) -> list[tuple[str, float]]:
            return [
                ("unicorn", 0.5),
                ("tea", 0.2),
                ("tea", 0.1),
                ("green", 0.06),
                ("day", 0.05),
                ("sun", 0.0),
            ]

    class Kept:
        def rank(self, query, clues, k):
            return ()

    (ranking,) = ExpertAloneRetriever(Fixed(), tokenizer, index, Kept(), guesses=2).retrieve([Query("q")], 5)
    found = [(clue.text, round(float(np.exp(clue.log_prob)), 6)) for clue in ranking.clues]
    assert found == [("tea", 0.3), ("green", 0.06)]
    assert all(index.search(clue.tokens) == clue.span and clue.span for clue in ranking.clues)


def test_an_expert_has_a_share_and_questions_of_its_own(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["eval", str(with_expert(material, tmp_path, 1.0)), f"output={tmp_path}/out"]) == 1
    assert "answer_expert.weight is 1.0; between 0 and 1" in capsys.readouterr().err
    same = with_expert(material, tmp_path, 0.5)
    overrides = [f"answer_expert.train={material / 'queries.jsonl'}", f"output={tmp_path}/out"]
    assert main(["eval", str(same), *overrides]) == 1
    assert "stand in the training file" in capsys.readouterr().err


def refusal(material: Path, tmp_path: Path, capsys: pytest.CaptureFixture, *overrides: str) -> str:
    """What the command says when it refuses; nothing may have been retrieved."""
    capsys.readouterr()
    assert main(["retrieve", str(material / "eval.yaml"), f"output={tmp_path}/out", *overrides]) == 1
    error = capsys.readouterr().err
    said = [line for line in error.splitlines() if line.startswith("gemkr: ")]
    assert len(said) == 1, error
    records = tmp_path / "out" / "run.jsonl"
    assert not records.exists() or not records.read_text()
    return said[0]


def test_an_index_of_another_tokenizer(material: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    train_vocabulary([text.upper() for text in TEXTS] * 20, tmp_path / "other.model", pieces=330)
    build_index(tmp_path / "other.fmi", load_tokenizer(tmp_path / "other.model"), TEXTS)
    assert "built with the tokenizer" in refusal(material, tmp_path, capsys, f"index={tmp_path}/other.fmi")


def test_an_index_with_a_wider_vocabulary(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    build_index(tmp_path / "wide.fmi", load_tokenizer(material / "t.model"), TEXTS, anonymous=True, wide=7)
    assert "a vocabulary of 347" in refusal(material, tmp_path, capsys, f"index={tmp_path}/wide.fmi")


def test_an_index_of_another_corpus(material: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    build_index(tmp_path / "less.fmi", load_tokenizer(material / "t.model"), TEXTS[:5])
    said = refusal(material, tmp_path, capsys, f"index={tmp_path}/less.fmi")
    assert "holds 5 documents, the corpus 12" in said
    texts = [f"Once more: {text}" for text in TEXTS]
    build_index(tmp_path / "titled.fmi", load_tokenizer(material / "t.model"), texts)
    said = refusal(material, tmp_path, capsys, f"index={tmp_path}/titled.fmi")
    assert "has other tokens in the index than" in said


def test_an_index_that_was_built_without_bad_rows(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    corpus = tmp_path / "corpus.csv"
    corpus.write_text((material / "corpus.csv").read_text() + "bad\n")
    command = ["eval", str(material / "eval.yaml"), f"output={tmp_path}/out", f"corpus={corpus}"]
    assert main([*command, "baselines=[bm25]"]) == 0
    run = str(tmp_path / "out" / "run.trec")
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
    assert main([*command, "retriever=bm25", "index=null", "--restart"]) == 1
    said = capsys.readouterr().err
    assert "the row has 1 columns, the header names 2; correct or delete the row" in said
    assert "skip" not in said
    corpus.write_text("kid,text\nbad\nother,text\n")
    assert main([*command, "retriever=bm25", "--restart"]) == 1
    assert "the index holds" in capsys.readouterr().err


def test_a_checkpoint_of_another_model(material: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    said = refusal(material, tmp_path, capsys, "model.lora.r=4")
    assert "model.lora.r = 2, this configuration has 4" in said


def test_a_checkpoint_of_another_tokenizer(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    model = load_gemkr(ModelConfig(llm=str(material / "llm"), lora=LoraConfig(r=2)))
    save_checkpoint(tmp_path / "final", Origin("gemkr", "f" * 64, "data", {}), model.trained_state())
    said = refusal(material, tmp_path, capsys, f"model.checkpoint={tmp_path}/final")
    assert "was trained with the tokenizer ffffffffffff" in said


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["index=null"], "needs an index"),
        (["model=null"], "needs a model"),
        (["scoring.inside_span=bm26"], "scoring.inside_span is 'bm26'"),
        (["scoring.method=best"], "'best'"),
        (["decoding.groups=3", "model.llm=nowhere"], "4 cannot be shared evenly by 3 groups"),
        (["retriever=rescored_seal"], "holds no clues; run a generative retriever"),
    ],
)
def test_missing_parts_and_unknown_names(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture, overrides: list[str], message: str
) -> None:
    assert message in refusal(material, tmp_path, capsys, *overrides)


def test_pictures_and_features_are_looked_for_first(
    material: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tower = [f"model.tower.config={material}/vit.json", "model.prefix.blocks=1", "model.checkpoint=null"]
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
