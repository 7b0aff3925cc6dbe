"""A few-shot model for `mlflow.pyfunc`: it adapts to a task and predicts.

This file and the folder `task_adaptation` are stored with each such model, so they need mlflow,
torch and numpy and nothing else of this project.
"""

import importlib
from typing import Any

import mlflow.pytorch

_ADAPTATION = "task_adaptation"


def _load_pyfunc(path: str, model_config: dict[str, Any]) -> Any:
    """Return an `Adapter` of the version that was logged with the model; MLflow calls this.

    Its `predict` takes `support_x` (N, C, H, W), `support_y` (N,) and `query_x` (M, C, H, W), and
    returns `labels` (M,) and `probabilities` (M, ways).

    Args:
        path: data of the model.
        model_config: was given when it was saved.
    """
    adaptation = importlib.import_module(_ADAPTATION)
    device = str(model_config.get("device") or "cpu")
    loaded = mlflow.pytorch._load_pyfunc(path, {"device": device})
    settings = adaptation.TaskSettings.from_dict(model_config["settings"])
    return adaptation.Adapter(loaded.get_raw_model().to(device), settings)
