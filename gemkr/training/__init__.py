"""Clues to learn from, batches, the loop and its checkpoints."""
