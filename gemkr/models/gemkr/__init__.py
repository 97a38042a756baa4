"""The GeMKR network and what it is shown."""
