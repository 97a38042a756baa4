"""The doors to transformers and peft: causal models, text encoders, their folders."""
