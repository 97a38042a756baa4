"""What is read from files: corpora, documents, queries, judgements, runs and clues."""
