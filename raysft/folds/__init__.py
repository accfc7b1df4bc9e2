"""Which rows train, validate and test: whole units, labels alike in all parts, and a proof that nothing leaks."""
