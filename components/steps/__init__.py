"""The six steps as plain functions on paths; `components.kfp_components` wraps each one for KFP.

A step first looks whether an earlier process finished it, writes its outputs under a temporary
name and renames them, and tells progress and tracking what it does (`components.steps.runtime`).
"""
