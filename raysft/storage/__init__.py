"""Where results live: path names, atomic commits, one writer at a time."""
