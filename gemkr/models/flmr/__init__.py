"""FLMR and PreFLMR: late interaction of texts and pictures."""
