"""Whether the champion can be used: its version, its files, their format, and its task.

A registry or an artifact store that does not answer, or refuses the account, says nothing about the
champion: these errors are raised, and only an answer that something is missing counts. The files
are looked up by listing them, since a download from a server reports a missing file as an internal
error. Imports no torch; mlflow is imported by the functions.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from components.registry.lookup import (
    CHAMPION,
    answer_of,
    champions_before,
    check_aliases,
    existing,
    history_of,
    open_registry,
)
from components.registry.task_schema import TAG, schema_hash
from components.tracking.registered_models import find_model
from nascore.data.findings import join_first
from nascore.data.prepared import DatasetInfo
from nascore.errors import visible
from nascore.redaction import redact

if TYPE_CHECKING:  # mlflow takes seconds to import
    from mlflow import MlflowClient
    from mlflow.models import Model

Kind = Literal["missing", "format", "task"]
Policy = Literal["replace", "stop"]
Shape = tuple[int, ...] | Mapping[str, tuple[int, ...]]

CLASSES = "classes"
"""Key in a model's metadata: names of its classes in the order of the outputs."""
_DESCRIPTION = "MLmodel"
_DELETED = "is not in the registry any more"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a champion cannot be loaded, or not be compared with a new model.

    Attributes:
        version: number of the champion.
        kind: `missing`: version or files; `format`: files that are not loaded; `task`: other
            classes or another input than those of the new model.
        reason: the rest of a sentence that begins with the champion.
        earlier: the last version in the history that still exists; None without one.
    """

    version: str
    kind: Kind
    reason: str
    earlier: str | None = None

    def __str__(self) -> str:
        return f"the champion (version {self.version}) {self.reason}"


@dataclass(frozen=True, slots=True)
class Task:
    """What a new model and the champion must have in common.

    Attributes:
        schema: hash of the schema; None if it is not known.
        inputs, outputs: shapes of images and logits, -1 for any number of images; None if they are
            not known.
        classes: names of the classes; empty if they are not known.
    """

    schema: str | None
    inputs: Shape | None = None
    outputs: Shape | None = None
    classes: tuple[str, ...] = ()

    @classmethod
    def of_data(cls, info: DatasetInfo) -> "Task":
        """Return the task of prepared data."""
        if info.class_splits is not None:  # few-shot: the outputs depend on each task
            return cls(schema_hash(info), classes=info.classes)
        images, logits = (-1, info.channels, info.size, info.size), (-1, len(info.classes))
        return cls(schema_hash(info), images, logits, info.classes)

    @classmethod
    def of_model(cls, described: "Model", tags: Mapping[str, str]) -> "Task":
        """Return the task of a model from its description and the tags of its version."""
        return cls(
            tags.get(TAG),
            shape_of(described.signature, is_output=False),
            shape_of(described.signature, is_output=True),
            tuple((described.metadata or {}).get(CLASSES, ())),
        )


def find_fault(name: str, *, uri: str, task: Task | None) -> Fault | None:
    """Return what is wrong with the champion; None if it can be used, or there is none.

    Args:
        name: name of the registered model.
        uri: MLflow store.
        task: that of the new model; None to leave the comparison out.

    Raises:
        Exception: of MLflow's client, when the registry or the artifact store does not answer or
            refuses the account.
    """
    client = open_registry(uri)
    check_aliases(client, name)
    model = find_model(client, name)
    if model is None:
        return None
    history = history_of(model)
    version = model.aliases.get(CHAMPION) or (history[-1] if history else None)
    if version is None:
        return None
    version = str(version)
    found = answer_of(lambda: client.get_model_version(name, version))
    if found is not None and CHAMPION not in model.aliases:
        return None  # the alias was deleted, and not the version: there is no champion
    if found is None:
        kind_and_reason: tuple[Kind, str] | None = ("missing", _DELETED)
    else:
        kind_and_reason = _fault_of_files(client, found, uri=uri, task=task)
    if kind_and_reason is None:
        return None
    earlier = existing(client, name, champions_before(version, history))
    return Fault(version, *kind_and_reason, earlier[-1] if earlier else None)


def is_replaced(fault: Fault, policy: Policy | None, *, retrains: bool) -> bool:
    """Return whether the new model becomes champion in place of one that cannot be used.

    A champion of another task is replaced only if the setting is `replace`: the name is more often
    wrong than the task has changed.

    Args:
        fault: what is wrong with the champion.
        policy: `registry.unusable_champion`.
        retrains: whether this is the retraining pipeline, which no user watches.
    """
    if policy is None:
        return retrains and fault.kind != "task"
    return policy == "replace"


def remedy(fault: Fault, name: str) -> str:
    """Return what the user can do about a champion that is not replaced, with commands."""
    replace = "--set registry.unusable_champion=replace"
    if fault.kind == "task":
        return (
            "give this model its own name with --set registry.model=NAME, or, if the task of "
            f"{name} has changed, replace its champion with {replace}"
        )
    options = [f"let the new model replace it with {replace}"]
    if fault.earlier is not None:
        rollback = f"nas rollback --set registry.model='{name}' --to {fault.earlier}"
        options.insert(0, f"make version {fault.earlier} champion again with `{rollback}`")
    if fault.kind == "missing":
        options.insert(0, "restore it")
    return ", or ".join(options)


def missing_files(client: "MlflowClient", name: str, version: str, *, uri: str) -> str | None:
    """Return why a version cannot be served: it, or files of it, are gone; None if they are there.

    Args:
        client: of the registry.
        name: name of the registered model.
        version: number of the version.
        uri: MLflow store.
    """
    found = answer_of(lambda: client.get_model_version(name, version))
    if found is None:
        return _DELETED
    fault = _fault_of_files(client, found, uri=uri, task=None)
    return fault[1] if fault is not None and fault[0] == "missing" else None


# --- the files of a version -------------------------------------------------------------------


def _fault_of_files(
    client: "MlflowClient", version: Any, *, uri: str, task: Task | None
) -> tuple[Kind, str] | None:
    location = answer_of(
        lambda: client.get_model_version_download_uri(version.name, version.version)
    )
    if location is None:  # the version refers to a logged model that was deleted for good
        return "missing", "refers to a model that MLflow no longer has"
    if _DESCRIPTION not in _list(location, uri):
        return "missing", f"has no files any more in {redact(location)}"
    described = _read_description(location, uri)
    if isinstance(described, str):
        return "format", f"cannot be loaded: its file {_DESCRIPTION} is damaged ({described})"
    pytorch = described.flavors.get("pytorch")
    if pytorch is None:
        return "format", "is not a PyTorch model"
    data = _list(f"{location}/{pytorch.get('model_data', 'data')}", uri)
    if not data:
        return "missing", f"has no weights any more in {redact(location)}"
    if not any(name.endswith(".pt2") for name in data):
        return "format", "cannot be loaded: it is pickled, and not in MLflow's pt2 format"
    other = None if task is None else difference(Task.of_model(described, version.tags), task)
    return None if other is None else ("task", other)


def _list(location: str, uri: str) -> list[str]:
    """Return the names of the files in a folder of artifacts; empty where it is not there."""
    from mlflow.artifacts import list_artifacts

    try:
        found = list_artifacts(artifact_uri=location, tracking_uri=uri)
    except Exception as error:  # MLflow, requests and boto3 have no common class of errors
        if getattr(error, "error_code", None) in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
            return []
        raise
    return [file.path.rpartition("/")[2] for file in found]


def _read_description(location: str, uri: str) -> "Model | str":
    """Return the description of a model, or why it cannot be read."""
    from mlflow.artifacts import download_artifacts
    from mlflow.models import Model

    with tempfile.TemporaryDirectory() as folder:
        path = download_artifacts(
            artifact_uri=f"{location}/{_DESCRIPTION}", dst_path=folder, tracking_uri=uri
        )
        try:
            return Model.load(path)
        except Exception as error:  # a damaged file makes MLflow's parser raise anything
            return redact(f"{type(error).__name__}: {error}").splitlines()[0][:100]


# --- the task ---------------------------------------------------------------------------------


def difference(champion: Task, new: Task) -> str | None:
    """Return how the task of the champion differs; None if it does not, as far as is known."""
    if champion.inputs != new.inputs and new.inputs is not None:
        return _other_shape("reads images", champion.inputs, new.inputs)
    if champion.classes and new.classes and champion.classes != new.classes:
        return f"has the classes {_shown(champion.classes)}, the new model {_shown(new.classes)}"
    if champion.outputs != new.outputs and new.outputs is not None:
        return _other_shape("answers with logits", champion.outputs, new.outputs)
    if champion.schema and new.schema and champion.schema != new.schema:
        return "has other classes than the new model, or the same ones in another order"
    return None


def _other_shape(what: str, theirs: Shape | None, ours: Shape) -> str:
    return f"{what} of shape {theirs or 'unknown'}, the new model of shape {ours}"


def _shown(classes: tuple[str, ...]) -> str:
    return f"{join_first([visible(name) for name in classes])} ({len(classes)})"


def shape_of(signature: Any, *, is_output: bool) -> Shape | None:
    """Return the shape of the logits or probabilities, or of the inputs, by name if several."""
    schema = None if signature is None else signature.outputs if is_output else signature.inputs
    if schema is None or not schema.is_tensor_spec():
        return None
    named = {one.name: tuple(one.shape) for one in schema.inputs}
    if not is_output and len(named) > 1:
        return named
    names = [name for name in ("logits", "probabilities") if name in named]
    return named[names[0]] if names else tuple(schema.inputs[0].shape)
