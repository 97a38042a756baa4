"""Research on OK-VQA: simple baselines, an answer expert, a learned scorer, and the drivers of long runs."""
