"""Wiring: the pipelines, their configurations, and the `nas` command."""
