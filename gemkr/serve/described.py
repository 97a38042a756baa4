"""How OpenAPI describes answers and uploads. Plain dictionaries; knows no routes."""

from __future__ import annotations

from typing import Any

from gemkr.serve import messages


def problems(meanings: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """How OpenAPI describes answers that are problems."""
    kind = {"application/problem+json": {}}
    return {
        status: {"model": messages.Problem, "content": kind, "description": what}
        for status, what in meanings.items()
    }


PROBLEMS = problems(
    {
        400: "The body is no JSON", 404: "Not there", 408: "The body came too slowly", 413: "Too large",
        422: "The request is not understood", 503: "Too much is waiting; see Retry-After", 504: "Not answered in time",
    }
)  # fmt: skip
REFUSALS = problems(
    {401: "The key is missing or wrong", 403: "The service has no key", 409: "There is no collection"}
)
UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def says(model: Any) -> dict[int | str, dict[str, Any]]:
    """An answer that is a message."""
    return {200: {"model": model}}


def streams() -> dict[int | str, dict[str, Any]]:
    """An answer that is a stream."""
    return {
        200: {"content": {"text/event-stream": {}}, "description": "events clues, then ranking or problem"}
    }
