"""Checkpoints: trained parameters in folders that are whole or not there."""
