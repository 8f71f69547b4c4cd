"""Export: a SPIKING graph -> files. One file a foreign format; `files.py` is how anything reaches the disk."""
