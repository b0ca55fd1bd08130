"""The commands of `python -m kit`."""
