"""Fixtures and marks for all tests; they live in `fixtures.py`, which other test folders share."""

from fixtures import *  # noqa: F403
