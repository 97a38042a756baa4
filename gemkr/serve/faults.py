"""From errors to problem+json: the status and the one sentence that a client is told. Knows no routes."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gemkr.errors import GemkrError, first_line
from gemkr.serve.guard import problem
from gemkr.serve.refusals import BROKEN, RefusedError, status_of

logger = logging.getLogger(__name__)
SCHEMA = "/openapi.json"
BODY = f"send one JSON object, as {SCHEMA} describes it, with Content-Type: application/json"
FOLDERS = re.compile(r"(?<![\w./:~-])(?:/[^\s/'\",;()]+)+/(?=[^\s/])")
"""The folders of an absolute path."""
NO_OBJECT = ("model_attributes_type", "model_type", "dict_type")
"""What pydantic says of a body that is something else than an object."""


def problem_of(error: BaseException) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of the answer to an error, which names no folder of this machine; what is no fault of the request says
    nothing of the inside and is logged."""
    if isinstance(error, HTTPException):
        return error.status_code, problem(error.status_code, str(error.detail)), dict(error.headers or {})
    if not isinstance(error, GemkrError):
        logger.error("a request failed", exc_info=error)
        return 500, problem(500, BROKEN), {}
    if isinstance(error, RefusedError):
        return error.status, problem(error.status, str(error)), error.headers
    status = status_of(error)
    if status >= 500:
        logger.error("a request failed: %s", error)
    return status, problem(status, FOLDERS.sub("", str(error))), {}


def answer_error(request: Request, error: Exception) -> Response:
    """The answer to an error; to the framework's own ones in words that name what was asked."""
    if isinstance(error, HTTPException):
        error = HTTPException(error.status_code, _said(request, error), error.headers)
    status, body, headers = problem_of(error)
    return Response(body, status, headers, media_type="application/problem+json")


def answer_faults(request: Request, error: Any) -> Response:
    """The answer to a request that is not what its route takes: the first of `error.errors()` in one sentence, no values."""
    first, *others = error.errors()
    more = f" (and {len(others)} more)" if others else ""
    return answer_error(request, HTTPException(422, fault_sentence(first) + more))


def fault_sentence(fault: Mapping[str, Any]) -> str:
    """A fault as pydantic and FastAPI describe it (`loc`, `type`, `msg`, `ctx`) as a sentence with its place and the way out."""
    kind, message = fault["type"], str(fault["msg"]).removeprefix("Value error, ")
    source, *path = fault["loc"]
    if kind == "json_invalid":
        reason = fault.get("ctx", {}).get("error", message)
        return f"the body is no JSON ({reason} at character {path[-1] if path else 0}); {BODY}"
    where = ".".join(str(part) for part in path if part not in ("one", "many"))[:200]
    if not where and kind == "missing":
        return f"the request has no body; {BODY}"
    if not where and kind in NO_OBJECT:
        return f"the body is no JSON object; {BODY}"
    if not where:
        return message
    what = f"the {'field' if source == 'body' else 'parameter'} {where}"
    if kind == "missing":
        return f"{what} is missing; add it, as {SCHEMA} describes it"
    if kind == "extra_forbidden":
        return f"{what} is unknown; leave it out or correct its name ({SCHEMA} lists all)"
    return f"{where}: {message}"


def _said(request: Request, error: HTTPException) -> str:
    """What an error says, in place of the framework's own sentences that name nothing."""
    path = f"{request.url.path[:80]!r}"
    if error.detail == "Not Found":
        return f"there is nothing at {path}; {SCHEMA} lists what there is"
    if error.detail == "Method Not Allowed":
        allowed = (error.headers or {}).get("Allow") or "other methods"
        return f"{path} does not answer {request.method}; use {allowed}"
    if error.status_code == 400 and isinstance(error.__cause__, Exception):
        return f"the body is no JSON that can be read ({first_line(error.__cause__)}); {BODY}"
    return str(error.detail)
