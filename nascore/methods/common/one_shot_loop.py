"""The loop of one-shot methods: what the training of shared weights needs around its steps."""

CHECKPOINT_EVERY_S = 30.0
"""Seconds between two checkpoints of a training of shared weights."""
