"""Where jobs run: clusters described by a short file, the files that make them, and what they can hold."""
