"""Reads what an earlier try of a step has written to its MLflow run."""

from components.tracking.client import open_client, quick_settings, within
from components.tracking.mlflow_errors import brief
from components.tracking.notes import warn
from components.tracking.tags import RUN_KEY

_LIMIT_S = 20.0
_UNKNOWN = "earlier tries of this step are not known"


def tag_of_run(uri: str, key: str, tag: str, *, unknown: str = _UNKNOWN) -> str | None:
    """Return a tag of the run of a key; None when there is no such run or tag.

    A store that cannot be asked is no reason to wait: the work is done again, with a warning.

    Args:
        uri: MLflow store.
        key: value of the tag `nas.run_key`.
        tag: name of the tag.
        unknown: text of the warning where the store cannot be asked; the cause follows.
    """
    try:
        with quick_settings():
            return within(_LIMIT_S, lambda: _tag(uri, key, tag))
    except Exception as error:  # whatever a store can raise: the step must not depend on it
        warn(f"{unknown} ({brief(error)})")
        return None


def _tag(uri: str, key: str, tag: str) -> str | None:
    client = open_client(uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`{RUN_KEY}` = '{key}'", max_results=1)
    found: str | None = runs[0].data.tags.get(tag) if runs else None
    return found
