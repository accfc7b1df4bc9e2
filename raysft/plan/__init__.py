"""What a run will take, before it takes it. Pure arithmetic; each number with its reason."""
