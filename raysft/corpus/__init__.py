"""From files as people have them to audited rows, honest folds and tokenized shards."""
