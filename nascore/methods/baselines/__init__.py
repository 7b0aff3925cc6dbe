"""The baselines that a method must beat."""
