"""Pipelines in `kfp.dsl`, and resources of the steps."""
