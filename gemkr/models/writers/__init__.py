"""The kinds of models that write clues."""
