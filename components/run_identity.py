"""Which pipeline run this process belongs to; the same for every try of every step.

A KFP run has one id, however often its steps are started. `nas retry` continues an ended run by a
new one: the new run works on the state and on the MLflow run of the first.
"""

import os

RUN_ID = "NAS_RUN_ID"
RETRY_OF = "NAS_RETRY_OF"


def run_id() -> str | None:
    """Return the id of the KFP run, or of the first of a chain of retries; None outside KFP."""
    return os.environ.get(RETRY_OF) or os.environ.get(RUN_ID) or None


def key_of(run: str) -> str:
    """Return the key of the MLflow run that belongs to a KFP run id."""
    return run.replace("-", "")


def run_key() -> str | None:
    """Return the key of this pipeline's MLflow run (tag `nas.run_key`); None outside KFP."""
    run = run_id()
    return None if run is None else key_of(run)
