"""Files as people have them, to raw rows that know their file and line."""
