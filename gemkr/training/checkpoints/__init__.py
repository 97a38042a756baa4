"""Checkpoints: trained parameters in folders that are complete or absent."""
