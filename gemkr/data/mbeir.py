"""What M-BEIR adds to queries: instructions from its table, gold documents from its qrels, the name of a local pool.

An instruction is chosen once, when the query file is made, so that every evaluation reads the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from gemkr.data.corpus_rows import corpus_rows
from gemkr.data.qrels import placed_qrels
from gemkr.data.tables import is_table, table_rows
from gemkr.data.text_files import id_fault, open_text
from gemkr.data.values import text_values
from gemkr.errors import ConfigError, DataError
from gemkr.types import Document, Query

KINDS = {"text": "text", "image": "image", "image,text": "image,text", "text,image": "image,text"}
"""Modalities as M-BEIR writes them -> in the order of the alphabet."""
QUERY, TARGET, DATASET, PROMPTS = 0, 1, 3, 4
"""Columns of the table: modality of the query and of what is looked for, number of the data set, the first prompt."""
NEGATIVES = "neg_cand_list"
Placed = tuple[str, Query]
"""File and line, and the query there."""


def modality(item: Query | Document) -> str:
    """What a query or document is made of: "text", "image" or "image,text"."""
    text = item.question if isinstance(item, Query) else item.contents
    return ",".join(name for name, given in (("image", item.image), ("text", text.strip())) if given)


def tidy(text: str, instruction: str | None = None) -> str:
    """A text as UniIR and LamRA read M-BEIR's, behind its instruction where there is one: stripped, without quotes around it, a capital
    letter first and a full stop last; the instruction too."""
    if instruction:
        text = f"{tidy(instruction)} {text}"
    text = text.replace("\r", "").strip().strip('"')
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".?!" else ".")


class InstructionProvider:
    """The instruction of a query, by its data set and what it asks with and for; from `query_instructions.tsv`.

    `choice` among the prompts of a row: `none`, `first`, `index:I` (from 0), or `random:SEED`, which depends on seed and query
    id alone: neither on the order of the queries nor on earlier calls.
    """

    def __init__(self, path: str | Path, choice: str = "first") -> None:
        """Read the table. ConfigError for an unknown choice; DataError naming file and line for a row with fewer than five
        columns, an unknown modality, or a second row of the same key."""
        self.path = Path(path)
        self._pick, number = choice.partition(":")[::2]
        if (
            self._pick not in ("none", "first", "index", "random")
            or (self._pick in ("index", "random")) != number.isdecimal()
        ):
            raise ConfigError(
                f"the choice of instructions {choice!r} is unknown; use none, first, index:I or random:SEED, such as random:2023"
            )
        self.silent = self._pick == "none"
        self._number = int(number or 0)
        self._rows = self._read()

    def _read(self) -> dict[tuple[str, str, str], tuple[int, list[str]]]:
        rows: dict[tuple[str, str, str], tuple[int, list[str]]] = {}
        with open_text(self.path) as stream:
            for line, text in enumerate(stream, 1):
                if text.isspace() or line == 1:
                    continue
                where, cells = (
                    f"{self.path}:{line}",
                    [cell.strip() for cell in text.rstrip("\r\n").split("\t")],
                )
                prompts = [cell for cell in cells[PROMPTS:] if cell]
                if not prompts:
                    raise DataError(
                        f"{where}: the row has no prompt; instructions have columns of query modality, candidate modality, "
                        "data set, its number, and prompts between tabs, under a header"
                    )
                kinds = [KINDS.get(cells[at].replace(" ", "")) for at in (QUERY, TARGET)]
                if None in kinds:
                    raise DataError(
                        f"{where}: the modalities {cells[QUERY]!r} and {cells[TARGET]!r} must be among {', '.join(map(repr, KINDS))}"
                    )
                key = (cells[DATASET], str(kinds[0]), str(kinds[1]))
                if key in rows:
                    raise DataError(
                        f"{where}: data set {key[0]!r} from {key[1]} to {key[2]} already stands in line {rows[key][0]}; keep one row"
                    )
                rows[key] = line, prompts
        if not rows:
            raise DataError(f"the instructions {self.path} hold no row below the header")
        return rows

    def prompts(self, query: Query, target: str, where: str) -> list[str]:
        """All prompts for a query that looks for a `target` modality; its data set is what stands before the ":" of its id.

        DataError with `where` when the table has no such row.
        """
        return self._row(query, target, where)[1]

    def _row(self, query: Query, target: str, where: str) -> tuple[int, list[str]]:
        key = (query.query_id.partition(":")[0], modality(query), target)
        if key not in self._rows:
            others = sorted(f"{a} to {b}" for name, a, b in self._rows if name == key[0])
            known = f"has {', '.join(others)}" if others else "has no row of that data set"
            raise DataError(
                f"{where}: the query {query.query_id!r} goes from {key[1]} to {key[2]} in data set {key[0]!r}, for which "
                f"{self.path} has no instruction ({known}); add a row"
            )
        return self._rows[key]

    def instruction(self, query: Query, target: str, where: str) -> str:
        """The one of its `prompts` that the choice picks; DataError with `where` also when the row has no such prompt."""
        line, prompts = self._row(query, target, where)
        if self._pick == "random":
            digest = hashlib.sha256(f"{self._number} {query.query_id}".encode()).digest()
            return prompts[int.from_bytes(digest[:8], "big") % len(prompts)]
        if self._number >= len(prompts):
            raise DataError(
                f"{self.path}:{line}: the row has {len(prompts)} prompts, the index {self._number} (from 0) is beyond them; "
                "choose a smaller one"
            )
        return prompts[self._number]


def with_instructions(
    queries: Iterable[Placed], provider: InstructionProvider, targets: Mapping[str, str], target: str | None
) -> Iterator[Placed]:
    """The queries with their instructions. `target` is the modality that all look for; None: each that of its first gold
    document, which `targets` knows (`modalities_of`). DataError for a query that has none."""
    for where, query in queries:
        if provider.silent:
            yield where, replace(query, instruction=None)
            continue
        if target is None and not query.positives:
            raise DataError(
                f"{where}: the query {query.query_id!r} has no gold document, whose modality decides the instruction; give "
                "--qrels, or --target"
            )
        kind = targets[query.positives[0]] if target is None else target
        yield where, replace(query, instruction=provider.instruction(query, kind, where))


def modalities_of(wanted: Mapping[str, str], candidates: str | Path) -> dict[str, str]:
    """Document -> its modality, for the `wanted` ones (document -> where it is named), from a file of candidates, which is read
    once; memory: the wanted ones.

    DataError for one that is not there, naming where it is named, and for a broken candidate.
    """
    found = {
        document.doc_id: modality(document)
        for _, document in placed_documents(candidates)
        if document.doc_id in wanted
    }
    for doc_id, where in wanted.items():
        if doc_id not in found:
            raise DataError(
                f"{where}: the document {doc_id!r} is not among the candidates {candidates}; give the pool of these queries"
            )
    return found


def has_negatives(path: str | Path) -> bool:
    """Whether the first row of a table of queries has a list of hard negatives."""
    path = Path(path)
    row = next(table_rows(path), (0, ""))[1] if is_table(path) else ""
    return isinstance(row, dict) and NEGATIVES in row


def negatives_of(path: str | Path, queries: Iterable[Placed]) -> dict[str, tuple[str, ...]]:
    """Query id -> the distinct hard negatives that the row there lists: M-BEIR's own, or those that UniIR mines. `queries`
    are those of the same file, in its order; those without any are left out.

    DataError naming file and line for a list that is none, an id with white space, and a file without any.
    """
    found = {}
    rows = (row for _, row in table_rows(Path(path)))
    for (where, query), row in zip(queries, rows, strict=True):
        listed = tuple(dict.fromkeys(text_values(row, NEGATIVES, where)))
        for doc_id in listed:
            if (fault := id_fault(doc_id, "document")) is not None:
                raise DataError(f"{where}: {fault}; correct it")
        if listed:
            found[query.query_id] = listed
    if not found:
        raise DataError(f"no query of {path} has a hard negative under {NEGATIVES!r}; leave --negatives out")
    return found


def placed_documents(path: str | Path) -> Iterator[tuple[str, Document]]:
    """(file and line, document) of a file of candidates; DataError for a broken row."""
    for line, document in corpus_rows(Path(path)):
        if isinstance(document, str):
            raise DataError(f"{path}:{line}: {document}; correct or delete the row")
        yield f"{path}:{line}", document


def with_gold(queries: Iterable[Placed], qrels: str | Path) -> tuple[list[Placed], dict[str, str]]:
    """The queries with the relevant documents of M-BEIR's (or TREC's) qrels as gold, in the order of the file, and the file and
    line of each judged document.

    Every judged query must be one of the queries: DataError naming file and line for another.
    """
    queries = list(queries)
    gold: dict[str, list[str]] = {query.query_id: [] for _, query in queries}
    judged: dict[str, str] = {}
    for where, query_id, doc_id, grade in placed_qrels(qrels):
        if query_id not in gold:
            raise DataError(
                f"{where}: the query {query_id!r} is judged, but is not among the queries; give the qrels of these queries"
            )
        judged.setdefault(doc_id, where)
        if grade > 0:
            gold[query_id].append(doc_id)
    return [
        (where, replace(query, positives=tuple(gold[query.query_id]) or query.positives))
        for where, query in queries
    ], judged
