"""The embedded sample (DESIGN 12): facts, rendered scenes with flags, questions, and the scripts of its base models.

`materialize(folder, seed)` in `materialize.py` writes the data in seconds; `python -m data_process.sample.models`
trains the base models under `dataset/sample/models/` anew.
"""
