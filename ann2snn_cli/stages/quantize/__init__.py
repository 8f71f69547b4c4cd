"""Quantize: grids for the weights (`weights.py`), training with them, correcting biases without training."""
