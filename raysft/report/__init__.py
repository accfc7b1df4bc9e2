"""What a run leaves for people to read: one HTML page and one Markdown model card, from the same facts."""
