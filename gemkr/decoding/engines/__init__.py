"""Doors for other engines: transformers' generate and vLLM."""
