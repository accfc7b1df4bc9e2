"""Using a finished model: plain folders in, labelled rows out."""
