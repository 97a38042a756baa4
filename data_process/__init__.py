"""Thin entry points under the names that readers of the paper know."""
