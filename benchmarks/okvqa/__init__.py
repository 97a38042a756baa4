"""Research on OK-VQA: simple opponents, an answer expert, a learned scorer, and the drivers of long runs."""
