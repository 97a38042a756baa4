"""`python -m gemkr`, and what the command `gemkr` calls."""

import gc
import sys

SERVICE = ("fastapi", "uvicorn", "starlette", "prometheus_client")


def main() -> int:
    """The command line; one sentence in place of a traceback where the C++ extension is not built, or a package of the
    extras is not installed."""
    try:
        from gemkr.cli import main as command

        status = command()
        gc.freeze()  # a last search for cycles among all that torch imports takes longer than leaving it to the system
        return status
    except ImportError as error:
        if (said := _remedy(error)) is None:
            raise
        print(f"gemkr: {said}", file=sys.stderr)
        return 1


def _remedy(error: ImportError) -> str | None:
    """What to do about a failed import; None for one that no installation mends."""
    if "extension is not built" in str(error):
        return str(error)
    package = (error.name or "gemkr").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or package == "gemkr":
        return None
    extra = "serve" if package in SERVICE else "model,yolo"
    return f"this command needs the package {package}, which is not installed; pip install 'gemkr[{extra}]'"


if __name__ == "__main__":
    raise SystemExit(main())
