"""What the stages share: the graph, its ops and their equations. Knows no files, no flags, no chip."""
