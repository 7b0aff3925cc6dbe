"""Benchmarks of proposing methods on tables of architectures that were trained before.

`table` reads a CSV file, `replay` runs one search on it, `bench` all searches, `statistics` has the
tests and `writing` the output.
"""
