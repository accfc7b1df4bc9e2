"""Search over settings, each tried by cross-validation over the same folds."""
