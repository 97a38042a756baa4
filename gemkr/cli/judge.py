"""`gemkr judge CONFIG`: reports the reward of each clue of a finished run, for training with a rank loss."""

from __future__ import annotations

import argparse
from pathlib import Path

from gemkr.cli.numbers import positive

HELP = "judge the clues of a finished run over queries with known answers, to learn from them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="the evaluation configuration that `gemkr eval` ran")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="the settings it was run with")
    parser.add_argument(
        "--retriever",
        metavar="NAME",
        help="the retriever whose run is judged (default: the first of evaluate)",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="the judged clues, *.jsonl")
    parser.add_argument(
        "--documents",
        type=positive,
        default=5,
        help="a clue is worth the share of relevant ones among its best so many documents (default 5)",
    )


def run(args: argparse.Namespace) -> int:
    from gemkr.cli.output import require_writable
    from gemkr.config.files import load_config
    from gemkr.config.packaged import find_config
    from gemkr.data.judged import read_judged, write_judged
    from gemkr.evaluation.config import EvalConfig
    from gemkr.evaluation.judge import make_judge
    from gemkr.evaluation.rewards import judge_clues
    from gemkr.progress import progress_bar
    from gemkr.retrievers.generative.retriever import clue_documents
    from gemkr.retrievers.rescored import generative_config
    from gemkr.retrievers.saved_clues import read_clues, require_answered, run_file

    config = load_config(find_config(args.config, "eval"), EvalConfig, args.overrides)
    name = args.retriever or config.evaluated[0]
    sources = config.sources()
    settings = generative_config(sources.section(name), "gemkr judge")
    folder = sources.run_folder(name)
    given = (
        args.config,
        config.require("queries"),
        config.corpus,
        settings.index,
        config.qrels,
        run_file(folder),
    )
    output = require_writable(args.output, *given)
    queries, documents = sources.queries, sources.documents
    judge = make_judge(
        (),
        qrels=config.qrels,
        queries=queries,
        contents=lambda doc_id: documents.by_id(doc_id).contents,
        match=config.match,
    )
    known = [query for query in queries if judge.knows(query)]
    clues = read_clues(folder, sources.index(settings.index))
    require_answered(clues, known, folder)
    lookup = clue_documents(settings, settings.scoring, sources)
    with progress_bar(known, desc="judging", unit=" queries") as bar:
        written = write_judged(output, judge_clues(bar, clues, lookup, judge, args.documents))
    rewards = [clue.reward for clue in read_judged(output)]
    print(f"clues              {written:>9,}  {output}")
    print(f"queries            {len(known):>9,}  of {len(queries):,}; {judge.describe}")
    print(f"mean reward        {sum(rewards) / len(rewards):>9.3f}")
    print(f"worth something    {sum(r > 0 for r in rewards) / len(rewards):>9.3f}  of the clues")
    return 0
