"""Schema of a task: what makes models comparable, and the default name of the registered model.

Imports neither mlflow nor torch, since the first step resolves the name.
"""

import hashlib
import json
import re
from typing import Any

from components.config.schema import Config
from components.tracking.datasets import data_name
from nascore.data.prepared import DatasetInfo
from nascore.errors import InputError
from nascore.redaction import redact

TAG = "nas.schema"
"""Tag of a model version and of a run: the hash of the schema."""
_TAG_CHARS = 12
_NAME_CHARS = 6  # of the hash; one data set name has few schemas
_MAX_DATA_NAME = 100


def schema_of(info: DatasetInfo) -> dict[str, Any]:
    """Return what two models must have in common to be compared; the images do not matter.

    A few-shot model has no fixed outputs: its classes are those of the data, by split.
    """
    few_shot = info.class_splits is not None
    return {
        "task": "few-shot classification" if few_shot else "classification",
        "classes": list(info.classes),
        "outputs": None if few_shot else len(info.classes),
        "channels": info.channels,
        "size": info.size,
    }


def schema_hash(info: DatasetInfo) -> str:
    """Return the hash of the schema, twelve hexadecimal digits, as the tag `nas.schema` has it."""
    text = json.dumps(schema_of(info), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_TAG_CHARS]


def default_name(info: DatasetInfo) -> str:
    """Return the default name of the registered model, such as `flowers-3f2a91`.

    Characters that a name cannot have, such as `/` and `:`, become hyphens.
    """
    name = re.sub(r"[^\w.-]+", "-", redact(data_name(info.source)))[:_MAX_DATA_NAME].strip("-.")
    return f"{name or 'data'}-{schema_hash(info)[:_NAME_CHARS]}"


def with_model_name(config: Config, info: DatasetInfo) -> Config:
    """Return the configuration with a name for the registered model: the set one or the default."""
    if config.registry.model is not None:
        return config
    registry = config.registry.model_copy(update={"model": default_name(info)})
    return config.model_copy(update={"registry": registry})


def model_name(config: Config) -> str:
    """Return the name of the registered model from the resolved configuration of a run.

    Raises:
        InputError: the configuration has not been resolved by a run, and sets no name.
    """
    if config.registry.model is None:
        raise InputError.of(
            "registry.model",
            "null",
            "is set by no configuration, and the default depends on the data; name the model with "
            "--model: `model_uri` in result.json, the last lines of `nas run` and the tag "
            "nas.model_uri of the MLflow run contain its name (models:/NAME/VERSION)",
        )
    return config.registry.model
