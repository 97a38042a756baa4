"""Figures that only a GPU can give: see README.md beside this file."""
