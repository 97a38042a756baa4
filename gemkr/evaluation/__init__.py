"""Qrels, metrics, TREC files and reports."""
