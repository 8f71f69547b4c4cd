"""Export: a SPIKING graph -> files. One file a format; `files.py` is how anything reaches the disk."""
