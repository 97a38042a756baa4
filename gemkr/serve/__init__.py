"""The HTTP service: retrievers behind FastAPI, requests decoded together, and a page to ask on."""
