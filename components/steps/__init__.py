"""The steps as plain functions on paths; `components.kfp_components` wraps each one for KFP.

`components.steps.runtime` restores the outputs of a step that an earlier process has finished,
reports progress and tracks the run.
"""
