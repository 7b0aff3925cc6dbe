"""Gradient-based meta-learning: how a network learns to learn from a few examples."""
