"""Second scorers over documents, one file each."""
