"""Analyse: where a conversion loses accuracy. Numbers in `errors.py`, pictures in `pictures.py`."""
