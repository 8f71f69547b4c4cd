"""What scripts/parity runs: the list of rows, the oracle, and one runner a tool."""
