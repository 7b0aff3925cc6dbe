"""Replays of tables: methods against each other on architectures that were all trained before.

`table` reads a CSV file, `replay` runs methods on it, `statistics` says what the figures mean,
`writing` puts them down. A method is known here by its proposer alone.
"""
