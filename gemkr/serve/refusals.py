"""Why a request is not answered: one sentence and the HTTP status that goes with it. Knows no web framework."""

from __future__ import annotations

from collections.abc import Mapping

from gemkr.errors import ConfigError, DataError, GemkrError, TokenizerError, VisionError

BROKEN = "the service failed at this request; its log says why"
"""All that is said of a fault of its own."""


class RefusedError(GemkrError):
    """A request that the service does not answer, with its HTTP status and headers."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = dict(headers or {})


class BusyError(RefusedError):
    """More work is waiting than the service takes on; `seconds` is when to come again."""

    def __init__(self, sentence: str, seconds: float) -> None:
        super().__init__(503, sentence, {"Retry-After": str(max(1, round(seconds)))})


class GivenUpError(RefusedError):
    """A question that took too long, or that nobody waits for any more."""

    def __init__(self, sentence: str) -> None:
        super().__init__(504, sentence)


def status_of(error: GemkrError) -> int:
    """The HTTP status of an error that is no refusal: what is wrong with the request is 4xx, with the service 5xx."""
    return 422 if isinstance(error, (ConfigError, DataError, TokenizerError, VisionError)) else 500
