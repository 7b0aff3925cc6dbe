"""The steps as plain functions on paths; `components.kfp_components` wraps each one for KFP.

The arguments of a `run` are those of the KFP component of the same name, which documents them.
`components.steps.runtime` restores the outputs of a step that an earlier process has finished,
reports progress and tracks the run.
"""
