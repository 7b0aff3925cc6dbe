"""What a person may set about tracking and promotion. Imports neither torch nor mlflow."""

from typing import Annotated

from pydantic import Field

from nascore.config import Section


class TrackingConfig(Section):
    """Where runs are logged."""

    uri: str = "sqlite:///runs/mlflow.db"
    """MLflow store: `sqlite:///FILE`, or `http(s)://HOST` of a tracking server."""
    experiment: Annotated[str, Field(min_length=1)] = "nas"


class PromoteConfig(Section):
    """When a model becomes the champion."""

    model_name: Annotated[str, Field(min_length=1, pattern=r"^\w[\w. -]*$")] = "nas-model"
    """Name in the MLflow registry."""
    min_gain: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """A challenger must beat the champion's test accuracy, and by at least this fraction."""
