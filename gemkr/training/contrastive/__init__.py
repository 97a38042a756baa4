"""Contrastive training of encoders: a query near its documents, far from those of the other queries."""
