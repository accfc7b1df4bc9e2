"""Node providers for Ray's autoscaler that take another pool where the cloud has no machine for the one asked for."""
