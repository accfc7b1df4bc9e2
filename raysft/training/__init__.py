"""Fine-tuning: a Ray-free loop, what it is made of, and the launcher that runs it on Ray Train."""
