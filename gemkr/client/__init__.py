"""A client of `gemkr serve`, on the standard library: `Client("http://127.0.0.1:8000").ask("Where was this made?")`.

One connection per call; safe to use from several threads.
"""

from gemkr.client.client import Client
from gemkr.client.messages import Box, Event, Found, FoundClue, FoundHit, Question, ServiceError

__all__ = ["Box", "Client", "Event", "Found", "FoundClue", "FoundHit", "Question", "ServiceError"]
