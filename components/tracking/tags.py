"""Tags of MLflow runs by which this project finds its runs and knows their state."""

from components.ending import TAG_KIND, TAG_REASON

RUN_KEY = "nas.run_key"
ADOPTED = "nas.adopted"
"""On runs that Kubeflow's MLflow plugin made: only Kubeflow ends them."""
ALIVE = "nas.alive"
"""UTC time of the last sign of life from the process that sends a run's events."""
END_TAGS = (TAG_REASON, TAG_KIND)
"""Why a run ended badly; removed when it is continued."""
PARENT = "mlflow.parentRunId"
MAX_TAG = 5000
"""Characters of a tag's value; MLflow's limit."""
