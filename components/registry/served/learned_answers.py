"""A few-shot model for `mlflow.pyfunc`: it learns a task, and answers.

This file and `task_adaptation.py` are copied beside each such model, so they need mlflow, torch and
numpy and nothing else of this project.
"""

import importlib
from typing import Any

import mlflow.pytorch

_BESIDE = "task_adaptation"


def _load_pyfunc(path: str, model_config: dict[str, Any]) -> Any:
    """What MLflow calls: an `Adapter`, of the version that was logged with the model.

    Its `predict` takes `support_x` (N, C, H, W), `support_y` (N,) and `query_x` (M, C, H, W), and
    gives `labels` (M,) and `probabilities` (M, ways).

    Args:
        path: the model's data.
        model_config: was given when it was saved.
    """
    adaptation = importlib.import_module(_BESIDE)
    device = str(model_config.get("device") or "cpu")
    loaded = mlflow.pytorch._load_pyfunc(path, {"device": device})
    settings = adaptation.TaskSettings.from_dict(model_config["settings"])
    return adaptation.Adapter(loaded.get_raw_model().to(device), settings)
