"""The journey of `raysft data`: read, audit, split, tokenize; once for every run that shares the result."""
