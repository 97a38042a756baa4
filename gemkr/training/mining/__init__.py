"""Mining of training clues from a corpus."""
