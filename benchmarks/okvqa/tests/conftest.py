"""The fixtures and marks of `tests/`, for the tests of the research beside the product."""

from fixtures import *  # noqa: F403
