"""Training of networks: children, the winner, supernets, checkpoints, data parallelism."""
