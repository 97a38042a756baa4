"""From clues that a language model writes to documents."""
