"""What is wrong with a corpus: each finding counted, located and shown."""
