"""Benchmarks and research beside the product."""
