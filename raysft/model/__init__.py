"""The model: a pretrained base with a new head, and the groups its parameters train in."""
