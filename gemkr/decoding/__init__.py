"""From allowed tokens to clues: the matcher, constrained logits and the beam search."""
