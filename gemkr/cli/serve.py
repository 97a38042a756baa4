"""`gemkr serve CONFIG`: the retrievers of a configuration behind HTTP, with a page to ask on."""

from __future__ import annotations

import argparse

from gemkr.cli.numbers import natural, positive

HELP = "answer questions over HTTP, with a page to ask on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        help="a YAML file with retrievers and a corpus, or the name of a packaged one (small, quickstart)",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parser.add_argument("--host", help="the address to listen at (default 127.0.0.1: this machine only)")
    parser.add_argument("--port", type=natural, help="default 8000; 0 for any that is free")
    parser.add_argument(
        "--workers", type=positive, default=1, help="processes that each load everything (default 1)"
    )
    parser.add_argument(
        "--check", action="store_true", help="load everything, ask each retriever one question, and exit"
    )


def run(args: argparse.Namespace) -> int:
    if args.config == "quickstart":
        from gemkr.cli.ask import require_quickstart

        require_quickstart()
    from gemkr.serve.server import read, serve

    given = {"host": args.host, "port": args.port}
    changes = {name: value for name, value in given.items() if value is not None}
    if args.check:
        from gemkr.serve.service import Service, check

        for line in check(Service(read(args.config, args.overrides, changes))):
            print(line)
        return 0
    serve(args.config, args.overrides, changes, args.workers)
    return 0
