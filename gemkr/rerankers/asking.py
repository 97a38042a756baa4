"""What rerankers that ask a language model share: the model, its prompts, and the answers whose logits are read.

An answer is one token behind the prompt; nothing is written and nothing is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gemkr.config.ranges import Positive, Share
from gemkr.data.mbeir import tidy
from gemkr.errors import ModelError
from gemkr.interfaces import LanguageModel
from gemkr.models.gemkr.config import require_passage, with_template
from gemkr.models.gemkr.prompt import GLUED, IMAGE_MARK, Template
from gemkr.models.vlm.config import VlmConfig
from gemkr.models.writers.config import WriterConfig, writer_files
from gemkr.rerankers.candidates import sees_documents
from gemkr.text.tokenizer import Tokenizer, as_written
from gemkr.types import Query

if TYPE_CHECKING:
    from gemkr.sources import Sources

OPENING = ("(", "[", "{", '"', "\n")
"""Where a template ends in one of these, its answer follows at once, else behind a space."""


@dataclass(frozen=True, kw_only=True)
class AskingConfig:
    """A language model of the LLaMA family, with a tower or without, or a vision-language model (`model.kind: vlm`), which also sees
    the pictures of documents. A prompt has at most `max_prompt_tokens`, a VLM's pictures not counted; with `tidy`, texts get a capital
    first and a full stop last, as LamRA reads M-BEIR's. `retrieval_weight` is the share of the score that the hits come with, `scaled`
    as in `pointwise`."""

    model: WriterConfig
    max_prompt_tokens: Positive = 512
    tidy: bool = False
    retrieval_weight: Share = 0.0
    scaled: bool = True


class Asked:
    """A language model and the answers that it chooses among, one token each.

    `prompts(query, passage=text, images=ids)` builds what `model.prefill` takes; with `sees_documents` the pictures of documents
    are among it. Texts of queries are `tidied`, and those of documents are to be.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        prompts: Callable[..., Any],
        answers: Sequence[int],
        *,
        sees_documents: bool = False,
        tidied: bool = False,
    ) -> None:
        self.model, self.tokenizer, self.prompts, self.answers = model, tokenizer, prompts, list(answers)
        self.sees_documents, self.tidied = sees_documents, tidied

    @classmethod
    def load(
        cls,
        config: AskingConfig,
        sources: Sources,
        kind: str,
        words: Sequence[str],
        remedy: str,
        *,
        limit: int | None,
    ) -> Asked:
        """Prompts are cut to `limit` tokens. ModelError for a template without a passage, and as `answer_tokens` raises; else
        as loading models does."""
        settings = with_template(config.model, kind)
        template = require_passage(settings, f"the reranker {kind}")
        end = prompt_end(settings, template)
        answers = answer_tokens(sources.tokenizer(settings), end, words, kind, remedy)
        model = sources.model(settings)
        pictures = regions = None
        if settings.sees_pictures and sources.pictures is not None:
            pictures, regions = sources.pictures, sources.regions if settings.sees_regions else None
        build = model.input_builder(pictures, regions, max_prompt_tokens=limit)
        shown = sees_documents(settings, pictures)
        prompts = prompts_of(build, tidied=config.tidy)
        return cls(model, model.tokenizer, prompts, answers, sees_documents=shown, tidied=config.tidy)

    def logits(self, prompts: Sequence[Any]) -> np.ndarray:
        """float64[n, answers] behind n prompts: one prefill."""
        logits, _ = self.model.prefill(prompts)
        return logits[:, self.answers].float().cpu().numpy().astype(np.float64)


def prompts_of(build: Callable[..., Any], *, tidied: bool = False, **settings: Any) -> Callable[..., Any]:
    """(query, passage=text, images=ids of the pictures in it) -> what `build`, an input builder, makes of them under `settings`."""

    def prompt(query: Query, *, passage: str, images: Sequence[str] = ()) -> Any:
        pictures = {"passage_images": images} if images else {}
        return build(instructed(query, tidied=tidied), passage=passage, **pictures, **settings)

    return prompt


def instructed(query: Query, *, tidied: bool) -> Query:
    """The query with its instruction, where there is one, before its question."""
    if tidied:
        return replace(query, question=tidy(query.question, query.instruction))
    if not query.instruction:
        return query
    return replace(query, question=f"{query.instruction} {query.question}".strip())


def asking_files(config: AskingConfig, kind: str) -> dict[str, str | None]:
    """Every path that the model is read from."""
    return {f"model.{what}": path for what, path in writer_files(with_template(config.model, kind)).items()}


def prompt_end(model: WriterConfig, template: Template) -> str:
    """The last text that a model reads before it answers: the template's own, or a chat's line end."""
    if isinstance(model, VlmConfig) and model.chat:
        return "\n"
    return re.split(rf"\}}|{IMAGE_MARK}", template.sections[-1].removeprefix(GLUED).replace("\\n", "\n"))[-1]


def answer_tokens(tokenizer: Tokenizer, end: str, words: Sequence[str], kind: str, remedy: str) -> list[int]:
    """The token of each word behind a prompt that ends in the text `end`; ModelError for a word that is not one known token there, and for
    two words of one token. `remedy` ends the sentence."""
    written = as_written(tokenizer)
    before = written.encode(end) if end else []
    space = " " if end and not end.endswith(OPENING) else ""
    found: dict[int, str] = {}
    for word in words:
        tokens = written.encode(end + space + word)
        tokens, prefix = tokens[len(before) :], tokens[: len(before)]
        if prefix != before or len(tokens) != 1 or tokens[0] == written.unk_id:
            pieces = " ".join(written.piece(token) for token in tokens)
            raise ModelError(
                f"the reranker {kind} reads the logit of {word!r}, which must be one token behind the prompt, and the tokenizer "
                f"{tokenizer.path} makes it {pieces!r}; {remedy}"
            )
        if tokens[0] in found:
            raise ModelError(
                f"the answers {found[tokens[0]]!r} and {word!r} of the reranker {kind} are one token; {remedy}"
            )
        found[tokens[0]] = word
    return list(found)
