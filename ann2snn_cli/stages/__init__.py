"""The stages of the pipeline: one verb a file, a graph in, a graph out. None imports another."""
