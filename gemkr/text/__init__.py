"""Texts and tokens: tokenizers, how texts become tokens, words and the matching of answers."""
