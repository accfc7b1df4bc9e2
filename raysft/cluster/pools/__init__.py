"""What the pools of a cluster have, cost and can hold."""
