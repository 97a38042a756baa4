"""Looking at a collection again and again, for what other processes do to it, among them other workers of the service."""

from __future__ import annotations

import asyncio
import logging

from gemkr.errors import GemkrError
from gemkr.serve.service import Service

logger = logging.getLogger(__name__)
FOLLOW_SECONDS = 1.0
"""How often a collection is looked at for changes of others; where they cannot be followed, twice as long each time, up to this:"""
MOST_FOLLOW_SECONDS = 600.0


async def follow(service: Service) -> None:
    """Bring a service's collection up to date as long as it has one; a fault is logged, and does not end it."""
    wait = FOLLOW_SECONDS
    while service.writable:
        await asyncio.sleep(wait)
        try:
            await asyncio.to_thread(service.follow)
            wait = FOLLOW_SECONDS
        except Exception as error:  # whatever it is, the next look may succeed
            wait = min(2 * wait, MOST_FOLLOW_SECONDS)
            known = isinstance(error, GemkrError)
            logger.error("%s; the next try is in %g s", error, wait, exc_info=None if known else error)
