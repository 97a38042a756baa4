"""Search over vectors, one for each document, and the folders that such vectors lie in."""
