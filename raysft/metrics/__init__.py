"""Scores, and how far each can be trusted. Pure arithmetic on arrays."""
