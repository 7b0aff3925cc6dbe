"""The splits of prepared data as MLflow's dataset inputs, by which its UI shows and compares data.

All splits have the name of the data set. Each has a digest of its own: MLflow treats inputs of one
name and digest as one. The context of an input is `train`, `validation` or `test`. mlflow is not
imported: the events hold the fields of `mlflow.entities.Dataset`.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from nascore.redaction import redact

if TYPE_CHECKING:
    from nascore.data.prepared import DatasetInfo

CONTEXTS = {"train": "train", "valid": "validation", "test": "test"}
"""MLflow's context of each split."""
CONTEXT_TAG = "mlflow.data.context"

_MAX_NAME = 500
_MAX_SOURCE = 65535
_MAX_SCHEMA = 1_048_575
_DIGEST_CHARS = 8  # as many as MLflow's own digests have
_ADDRESS = re.compile(r"[a-z][\w+.-]*://")


def data_name(source: str) -> str:
    """Return the name of a data set: `digits`, or the last part of a path without its suffix."""
    kind, _, path = source.partition(":")
    return Path(_address(path)).stem or kind


def digest_of(info: "DatasetInfo", split: str) -> str:
    """Return the digest of a split, which changes with its images, labels or classes.

    Args:
        info: of the prepared data.
        split: `train`, `valid` or `test`.
    """
    content = f"{info.data_sha256} {info.split_sha256} {split}"
    return hashlib.sha256(content.encode()).hexdigest()[:_DIGEST_CHARS]


def inputs_of(info: "DatasetInfo", splits: Iterable[str] = tuple(CONTEXTS)) -> list[dict[str, Any]]:
    """Return the dataset inputs of splits, as events hold them.

    Args:
        info: of the prepared data.
        splits: `train`, `valid` and `test`, or some of them.
    """
    kind, source = _source(info)
    return [
        {
            "name": redact(data_name(info.source))[:_MAX_NAME],
            "digest": digest_of(info, split),
            "source_type": kind,
            "source": source,
            "schema": _schema(info, split),
            "profile": json.dumps(_profile(info, split)),
            "context": CONTEXTS[split],
        }
        for split in splits
    ]


def _source(info: "DatasetInfo") -> tuple[str, str]:
    """Return MLflow's type of a source, and the source as the JSON of that type."""
    kind, _, path = info.source.partition(":")
    if not path:  # a data set of a library
        return "code", json.dumps({"uri": kind, "tags": {"mlflow.source.name": kind}})
    address = _address(path)[:_MAX_SOURCE]
    if _ADDRESS.match(path):
        scheme = path.partition("://")[0]
        if scheme in ("http", "https"):
            return "http", json.dumps({"url": address})
        return scheme, json.dumps({"uri": address})
    return "local", json.dumps({"uri": str(Path(address).expanduser().absolute())})


def _address(path: str) -> str:
    """Return a path or a URI without account and query, which may hold a signature."""
    if not _ADDRESS.match(path):
        return redact(path)
    try:
        parts = urlsplit(redact(path))
    except ValueError:  # such as an unfinished IPv6 address: a password has a bracket
        return redact(path).partition("?")[0]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _schema(info: "DatasetInfo", split: str) -> str | None:
    """Return the schema of images and labels in MLflow's form; None for too many class names."""
    features = [_tensor("uint8", [-1, info.channels, info.size, info.size])]
    schema = {
        "mlflow_tensorspec": {
            "features": json.dumps(features),
            "targets": json.dumps([_tensor("int64", [-1])]),
        },
        "classes": list(info.names_of(split)),
    }
    text = json.dumps(schema)
    return text if len(text) <= _MAX_SCHEMA else None


def _tensor(dtype: str, shape: list[int]) -> dict[str, Any]:
    return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}}


def _profile(info: "DatasetInfo", split: str) -> dict[str, Any]:
    """Return the sizes of a split, under the names that MLflow gives to those of arrays."""
    num_images = getattr(info, f"num_{split}")
    shape = [num_images, info.channels, info.size, info.size]
    return {
        "num_images": num_images,
        "num_classes": len(info.names_of(split)),
        "features_shape": shape,
        "features_size": num_images * info.channels * info.size**2,
        "features_nbytes": num_images * info.channels * info.size**2,
        "targets_shape": [num_images],
        "class_counts": dict(zip(info.classes, info.class_counts[split], strict=True)),
        "data_sha256": info.data_sha256,
    }
