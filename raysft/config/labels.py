"""Labels by which jobs ask for nodes: every maker of clusters gives them to each node, whoever made it."""

from __future__ import annotations

POOL = "raysft.io/pool"  # its value: the name of the pool
MARKET = "raysft.io/market"  # spot | on-demand
