"""The network: prompt, object-aware prefix, projector, LLM, and GeMKR made of them."""
