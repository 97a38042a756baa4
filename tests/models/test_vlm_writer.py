"""VLMs that write clues: every family, tiny and random, against plain loops over the library's own forward."""

from __future__ import annotations

import base64
import dataclasses
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from serve.tiny_service import LOCAL, problem
from starlette.testclient import TestClient
from tiny_pictures import SIZE, save_pictures
from tiny_vlm import VISION, save_tiny_vlm
from transformers import AutoConfig, AutoModelForImageTextToText, DynamicCache

import gemkr
from gemkr.cli import main
from gemkr.config.files import load_config
from gemkr.data.clues import MinedClue, read_clues, write_clues
from gemkr.decoding.beam import generate_clues, put_on_device
from gemkr.decoding.config import DecodingConfig
from gemkr.errors import CheckpointError
from gemkr.evaluation.config import EvalConfig
from gemkr.fm_index import FMIndex
from gemkr.models.gemkr import branches
from gemkr.models.gemkr.branches import BranchState
from gemkr.models.gemkr.prompt import IGNORED_LABEL
from gemkr.models.gemkr.rows import ClueTarget
from gemkr.models.gemkr.slots import Slots
from gemkr.models.hf.config import LoraConfig
from gemkr.models.hf.llm import CacheState
from gemkr.models.hf.vlm_llm import VlmLLM
from gemkr.models.vlm.config import VlmConfig
from gemkr.models.vlm.inputs import VlmExample
from gemkr.models.vlm.network import VlmWriter, load_vlm_writer
from gemkr.models.weights import weights_digest
from gemkr.retrievers.compose import RETRIEVERS
from gemkr.serve.app import create_app
from gemkr.serve.service import Service
from gemkr.sources import Sources
from gemkr.text.tokenizer import load_tokenizer
from gemkr.training.checkpoints.trained import load_model
from gemkr.training.config import TrainConfig, TrainDataConfig
from gemkr.training.finetune import finetune
from gemkr.training.loop.config import OptimizerConfig
from gemkr.types import Query
from gemkr.vision.pictures import PictureFolder

FAMILIES = list(VISION)
CLUES = [
    f"{colour} {thing}"
    for colour, thing in product(("red", "blue", "small", "big"), ("cat", "dog", "bird", "boat"))
]
TEXTS = [f"the {clue} is one of the tree house" for clue in CLUES]
EVERY_LAYER = LoraConfig(r=8, alpha=16, dropout=0.0, targets=r".*_proj")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each family, and 16 pictures, queries, documents and clues; what tells queries apart is the picture."""
    home = tmp_path_factory.mktemp("vlm")
    for family in FAMILIES:
        save_tiny_vlm(home / family, family)
    save_pictures(home / "images", [f"p{i}" for i in range(3)])
    (home / "squares").mkdir()
    for i in range(
        16
    ):  # one of four colours on the left, for the first word; one of four others on the right
        picture = np.zeros((SIZE, SIZE, 3), np.uint8)
        for side, colour in ((slice(0, SIZE // 2), i // 4), (slice(SIZE // 2, SIZE), 4 + i % 4)):
            picture[:, side] = [255 * (colour >> k & 1) for k in range(3)]
        Image.fromarray(picture).save(home / "squares" / f"p{i}.png")
    tokenizer = load_tokenizer(home / FAMILIES[0])
    documents = [tokenizer.encode(text) for text in TEXTS]
    ids = [f"d{i}" for i in range(16)]
    FMIndex.build(documents, ids, vocab_size=tokenizer.vocab_size, tokenizer=tokenizer).save(
        home / "corpus.fmi"
    )
    (home / "corpus.csv").write_text("kid,text\n" + "".join(f"d{i},{text}\n" for i, text in enumerate(TEXTS)))
    rows = [{"query_id": f"q{i}", "question": "which one is", "image": f"p{i}"} for i in range(16)]
    (home / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_clues(
        home / "clues.jsonl",
        [
            MinedClue(f"q{i}", f"d{i}", 1, 3, tuple(documents[i][1:3]), clue, "short", 1, clue)
            for i, clue in enumerate(CLUES)
        ],
    )
    return home


def test_clues_are_mined_with_the_tokenizer_of_the_folder(home: Path, tmp_path: Path) -> None:
    """`gemkr mine --tokenizer FOLDER`: the slices that the writer learns, of the document that holds the answer."""
    rows = [
        {"query_id": f"q{i}", "question": "which one is", "answers": [clue]} for i, clue in enumerate(CLUES)
    ]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--corpus", str(home / "corpus.csv"), "--index", str(home / "corpus.fmi"), "--threads", "1"]
    words += ["--tokenizer", str(home / FAMILIES[0]), "--forms", "short", "-o", str(tmp_path / "clues.jsonl")]
    assert main(["mine", str(tmp_path / "queries.jsonl"), *words]) == 0
    found, expected = (list(read_clues(folder / "clues.jsonl")) for folder in (tmp_path, home))
    assert [(c.query_id, c.doc_id, c.tokens, c.text) for c in found] == [
        (c.query_id, c.doc_id, c.tokens, c.text) for c in expected
    ]


def awake(config: VlmConfig) -> VlmWriter:
    """A writer all of whose adapters do something."""
    torch.manual_seed(3)
    model = load_vlm_writer(config)
    for parameter in model.trainable_parameters().values():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, home: Path) -> VlmWriter:
    return awake(VlmConfig(folder=str(home / request.param), lora=dataclasses.replace(EVERY_LAYER, r=2)))


def prompts(model: VlmWriter, home: Path, **settings: Any) -> list[VlmExample]:
    """A picture with a question, one with a longer question, no picture, a picture alone."""
    build = model.input_builder(PictureFolder(home / "images"), **settings)
    queries = [
        Query("0", "which one is", "p0"),
        Query("1", "which one of the red cat is a small dog of", "p1"),
        Query("2", "the blue bird is one"),
        Query("3", "", "p2"),
    ]
    return [build(query) for query in queries]


class Plain:
    """The slow twin: each row's whole text through the library's own forward, alone, without a cache."""

    def __init__(self, model: VlmWriter) -> None:
        self.model, self.vocab_size, self.eos_token_ids = model, model.vocab_size, model.eos_token_ids
        self.device = torch.device("cpu")

    @torch.no_grad()
    def logits(self, prompt: VlmExample, clue: list[int]) -> torch.Tensor:
        """float32[T, V] of a prompt and what follows it."""
        parts = self.model.parts
        tokens = torch.tensor([[*prompt.sample.tokens.tolist(), *clue]])
        extra = {}
        if parts.family.typed:
            extra["mm_token_type_ids"] = (tokens == parts.config.image_token_id).to(torch.int32)
        pictures = parts.family.join(prompt.pictures)
        return self.model.llm.model(input_ids=tokens, **pictures, **extra, use_cache=False).logits[0].float()

    def prefill(self, prompts: list[VlmExample]) -> tuple[torch.Tensor, Texts]:
        texts = Texts([(prompt, []) for prompt in prompts])
        return self._last(texts), texts

    def step(self, tokens: torch.Tensor, state: Texts) -> tuple[torch.Tensor, Texts]:
        texts = Texts([(p, [*t, int(token)]) for (p, t), token in zip(state.rows, tokens, strict=True)])
        return self._last(texts), texts

    def _last(self, texts: Texts) -> torch.Tensor:
        return torch.stack([self.logits(prompt, clue)[-1] for prompt, clue in texts.rows])


@dataclasses.dataclass
class Texts:
    rows: list[tuple[VlmExample, list[int]]]

    def select(self, rows: Any) -> Texts:
        return Texts([self.rows[int(row)] for row in rows])


def test_beams_equal_a_plain_loop_over_the_models_own_forward(model: VlmWriter, home: Path) -> None:
    index, settings = (
        FMIndex.load(home / "corpus.fmi"),
        DecodingConfig(beam_size=3, groups=1, diversity=0.0, max_tokens=4),
    )
    shown = prompts(model, home)
    ours, theirs = (generate_clues(each, index, shown, settings) for each in (model, Plain(model)))
    on_device = dataclasses.replace(settings, engine="device")
    there = put_on_device(model, index, on_device)
    staying = generate_clues(model, index, shown, on_device, on_device=there)
    assert all(len(clues) == 3 for clues in ours)
    for mine, plain, stayed in zip(ours, theirs, staying, strict=True):
        assert [clue.tokens for clue in mine] == [clue.tokens for clue in plain]
        assert [clue.tokens for clue in mine] == [clue.tokens for clue in stayed]
        np.testing.assert_allclose([c.log_prob for c in mine], [c.log_prob for c in plain], atol=2e-4)
        np.testing.assert_allclose([c.log_prob for c in mine], [c.log_prob for c in stayed], atol=2e-4)
    assert len({tuple(clue.log_prob for clue in clues) for clues in ours}) == 4


@torch.no_grad()
def test_cached_and_uncached_logits_agree(model: VlmWriter, home: Path) -> None:
    shown, clue = prompts(model, home), [14, 9, 30, 21]
    logits, state = model.prefill(shown)
    steps = [logits]
    for token in clue:
        logits, state = model.step(torch.full((len(shown),), token), state)
        steps.append(logits)
    for row, prompt in enumerate(shown):
        expected = Plain(model).logits(prompt, clue)[len(prompt.sample.tokens) - 1 :]
        torch.testing.assert_close(torch.stack([step[row] for step in steps]), expected, rtol=1e-3, atol=2e-4)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_never_waits_for_its_device(home: Path, family: str) -> None:
    """On torch's meta device there are no values, so that whatever would fetch one raises."""
    config = AutoConfig.from_pretrained(home / family)
    with torch.device("meta"):
        llm = VlmLLM(AutoModelForImageTextToText.from_config(config).eval())
        tokens = torch.zeros(2, 5, dtype=torch.int64)
        visible = torch.ones(2, 5, 5, dtype=torch.bool)
        cache = DynamicCache(config=config.get_text_config())
        _, cache = llm.extend(llm.embed(tokens), visible, tokens, visible[:, 0], cache)
        state = BranchState.root(CacheState(cache, torch.ones_like(tokens), tokens[:, 0]))
        for rows in ([0, 0, 1, 1, 1], [4, 3, 3, 1]):
            state = state.select(torch.tensor(rows, device="cpu"))
            logits, state = branches.step(llm, torch.zeros(len(rows), dtype=torch.int64), state)
            assert logits.shape == (len(rows), llm.vocab_size)
        first = BranchState.root(CacheState(cache, torch.ones_like(tokens), tokens[:, 0]))
        slots = Slots(llm, first, 4, 3, 2)
        slots.begin(first)
        places = torch.zeros(4, 3, dtype=torch.int64)
        for _ in range(2):
            assert slots.step(places, places).shape == (12, llm.vocab_size)


@torch.no_grad()
def test_padding_and_batch_order_change_nothing(model: VlmWriter, home: Path) -> None:
    build = model.input_builder(PictureFolder(home / "images"))
    questions = ["which one is", "which one of the red cat is a small dog of a big green house", "the tree"]
    examples = [build(Query(str(i), text, f"p{i}"), clue=[9 + i, 12]) for i, text in enumerate(questions)]
    examples.append(build(Query("3", "the blue bird"), clue=[20]))
    alone = torch.cat([model.token_losses(model.collate([example]))[0] for example in examples])
    for order in ([0, 1, 2, 3], [3, 2, 0, 1]):
        together = model.token_losses(model.collate([examples[i] for i in order]))[0]
        torch.testing.assert_close(together, alone[order], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_clues_behind_a_prompt_have_the_loss_of_a_row_each(model: VlmWriter, home: Path) -> None:
    clues = [(9, 12), (20,), (14, 15, 16)]
    shown = prompts(model, home)
    rows = [
        dataclasses.replace(
            prompt,
            sample=dataclasses.replace(
                prompt.sample,
                tokens=np.concatenate([prompt.sample.tokens, clue, [model.eos_token_ids[0]]]).astype(
                    np.int64
                ),
            ),
        )
        for prompt in shown
        for clue in clues
    ]
    shared = [dataclasses.replace(prompt, clues=tuple(map(ClueTarget, clues))) for prompt in shown]
    apart, together = model.collate(rows), model.collate(shared)
    assert apart.target_count() == together.target_count() == 4 * 9
    assert (apart.labels != IGNORED_LABEL).sum() == 4 * 9
    torch.testing.assert_close(model(together), model(apart), rtol=1e-4, atol=1e-4)


def test_a_step_changes_adapters_and_nothing_else(model: VlmWriter, home: Path) -> None:
    learned = model.trainable_parameters()
    adapters = {name: parameter.detach().clone() for name, parameter in learned.items()}
    rest = weights_digest({n: t for n, t in model.state_dict().items() if n not in learned})
    shown = [dataclasses.replace(prompt, clues=(ClueTarget((9, 12)),)) for prompt in prompts(model, home)]
    optimizer = torch.optim.SGD(learned.values(), lr=0.1)
    model(model.collate(shown)).backward()
    optimizer.step()
    assert all(not torch.equal(parameter, adapters[name]) for name, parameter in learned.items())
    assert weights_digest({n: t for n, t in model.state_dict().items() if n not in learned}) == rest
    model.zero_grad()


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_near(home: Path, family: str) -> None:
    """Frozen weights of 16 bits, adapters of 32: the same function up to rounding, and gradients."""
    losses = []
    for precision in ("fp32", "bf16"):
        model = awake(VlmConfig(folder=str(home / family), lora=EVERY_LAYER, precision=precision))
        shown = [dataclasses.replace(prompt, clues=(ClueTarget((9, 12)),)) for prompt in prompts(model, home)]
        loss = model(model.collate(shown))
        loss.backward()
        assert all(p.grad.isfinite().all() for p in model.trainable_parameters().values())
        logits, state = model.prefill(shown)
        assert model.step(logits.argmax(dim=1), state)[0].isfinite().all()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    assert {p.dtype for p in model.trainable_parameters().values()} == {torch.float32}


@pytest.mark.parametrize("family", FAMILIES)
def test_it_learns_16_pictures_by_heart_and_no_vision_weight(home: Path, tmp_path: Path, family: str) -> None:
    """The same data, loop, checkpoints and evaluation as GeMKR's."""
    config = VlmConfig(folder=str(home / family), lora=EVERY_LAYER)
    training = TrainConfig(
        model=config,
        data=TrainDataConfig(
            queries=str(home / "queries.jsonl"), clues=str(home / "clues.jsonl"), images=str(home / "squares")
        ),
        output=str(tmp_path / "run"),
        optimizer=OptimizerConfig(lr=1e-2, min_lr=1e-3, warmup_steps=3, weight_decay=0.0),
        batch_size=4,
        epochs=15,
        save_every=1000,
        log_every=25,
        workers=0,
    )
    finetune(training)
    trained = dataclasses.replace(config, checkpoint=str(tmp_path / "run" / "final"))
    before, after = load_vlm_writer(config), load_model(trained)
    learned = set(after.trainable_parameters())
    assert learned
    assert all("lora" in name and ("language_model" in name or "text_model" in name) for name in learned)
    frozen = [
        {name: tensor for name, tensor in network.state_dict().items() if name not in learned}
        for network in (before, after)
    ]
    assert weights_digest(frozen[0]) == weights_digest(frozen[1])
    decoding = DecodingConfig(beam_size=4, groups=1, diversity=0.0, max_tokens=3, batch_size=16)
    written = {
        "kind": "generative",
        "index": str(home / "corpus.fmi"),
        "model": {
            "kind": "vlm",
            "folder": str(home / family),
            "lora": dataclasses.asdict(EVERY_LAYER),
            "checkpoint": trained.checkpoint,
        },
        "decoding": dataclasses.asdict(decoding),
    }
    section = RETRIEVERS.read(written, "retrievers.vlm")
    sources = Sources(
        home / "corpus.csv", {"vlm": section}, queries=home / "queries.jsonl", images=home / "squares"
    )
    rankings = sources.retriever("vlm").retrieve(sources.queries, 1)
    assert [ranking.hits[0].doc_id for ranking in rankings] == [f"d{i}" for i in range(16)]
    if family == FAMILIES[0]:
        with pytest.raises(
            CheckpointError, match=r"was trained with model.chat = True, this configuration has False"
        ):
            load_model(dataclasses.replace(trained, chat=False))
        with pytest.raises(
            CheckpointError, match=r"was trained on the VLM .*, this configuration loads one with"
        ):
            load_model(dataclasses.replace(trained, folder=str(home / "qwen2_5_vl")))
        values = {"corpus": str(home / "corpus.csv"), "output": str(tmp_path), "retrievers": {"vlm": written}}
        (tmp_path / "serve.yaml").write_text(json.dumps(values))
        loaded = gemkr.load(tmp_path / "serve.yaml")
        (hit,) = loaded.ask("which one is", home / "squares" / "p3.png", k=1).hits
        assert hit.text == TEXTS[3]
        served = Service(load_config(tmp_path / "serve.yaml", EvalConfig))
        Image.new("RGB", (4, 1000)).save(tmp_path / "narrow.png")
        with TestClient(create_app(served), LOCAL) as client:
            files = home / "squares" / "p3.png", tmp_path / "narrow.png"
            pictures = [base64.b64encode(file.read_bytes()).decode() for file in files]
            good, bad = (
                client.post("/v1/retrieve", json={"question": "which one is", "picture_base64": picture})
                for picture in pictures
            )
        assert good.json()["hits"][0]["doc_id"] == "d3"
        assert "4x1000 pixels, is not one that the model's image processor takes" in problem(bad, 422)
