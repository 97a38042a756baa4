"""Retrievers, one class each; `compose` finds them by name."""
