"""What a registered model says about itself: task, classes, input and preprocessing.

The metadata is stored in the model's `MLmodel` file, for `mlflow.models.get_model_info`; the tags
show the same on the page of a model version, cut to what every MLflow server takes.
"""

import json
from collections.abc import Mapping
from typing import Any

from components.registry import task_schema
from nascore.data.prepared import DatasetInfo
from nascore.redaction import redact

MAX_TAG = 5000
"""Characters of a tag's value; MLflow before 2.0 takes no more, and later servers 100,000."""
VALIDATION = "validation_status"
"""MLflow's usual tag of a version for the state of its checks."""
PENDING, APPROVED, REJECTED = "pending", "approved", "rejected"


def metadata_of(info: DatasetInfo) -> dict[str, Any]:
    """Return the metadata of a model that was trained on these data; JSON.

    A few-shot model has no classes; those that it has learned are added by its adapter.
    """
    few_shot = info.class_splits is not None
    metadata: dict[str, Any] = {
        "task": task_schema.schema_of(info)["task"],
        "schema": task_schema.schema_hash(info),
        "input": {
            "name": "pixels",
            "dtype": "float32",
            "shape": [-1, info.channels, info.size, info.size],
            "layout": "NCHW",
            "range": [0, 255],
            "channel_order": _channel_order(info),
        },
        "preprocessing": {
            "where": "inside the model",
            "formula": "(pixels / 255 - mean) / std",
            "mean": list(info.mean),
            "std": list(info.std),
            "image_size": info.size,
        },
    }
    if not few_shot:
        metadata["classes"] = list(info.classes)
        metadata["output"] = {"name": "logits", "shape": [-1, len(info.classes)]}
    return metadata


def tags_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a version from the metadata of its model.

    Args:
        metadata: from `metadata_of`.
    """
    given = metadata["input"]
    channels, size = given["shape"][1], given["shape"][2]
    steps = metadata["preprocessing"]
    tags = {
        task_schema.TAG: metadata["schema"],
        "nas.task": metadata["task"],
        "nas.input": f"{given['dtype']} pixels 0..255, N x {channels} x {size} x {size}, "
        f"{given['channel_order']}",
        "nas.preprocessing": f"{steps['where']}: {steps['formula']}, mean {_numbers(steps['mean'])}"
        f", std {_numbers(steps['std'])}",
    }
    if "classes" in metadata:
        tags["nas.classes"] = _listed(metadata["classes"])
    return tags


def cut(text: str) -> str:
    """Return the value of a tag, cut to what every server takes."""
    return text if len(text) <= MAX_TAG else f"{text[: MAX_TAG - 3]}..."


def _channel_order(info: DatasetInfo) -> str:
    if info.channels == 1:
        return "grayscale"
    is_array = info.source.startswith("npz:")
    return "RGB" if info.channels == 3 and not is_array else "as in the source"


def _listed(classes: list[str]) -> str:
    """Return the names as JSON; of more than a tag takes, the first ones and how many there are."""
    text = json.dumps(classes, ensure_ascii=False)
    if len(text) <= MAX_TAG:
        return redact(text)
    start, _, _ = text[: MAX_TAG - 40].rpartition(", ")
    return redact(f"{start}, ...] ({len(classes)} classes)")


def _numbers(values: list[float]) -> str:
    return f"[{', '.join(f'{value:.4g}' for value in values)}]"
