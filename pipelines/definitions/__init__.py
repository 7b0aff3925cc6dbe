"""The pipelines in `kfp.dsl`, and what each step asks of the cluster."""
