"""The files that make a cluster of each kind, from its cluster file."""
