"""Teachers of the final training: registered models, folders of models, exported programs.

Each kind says its classes and its input: a registered model in its metadata, a folder in
`model.json` (`nascore.training.final_model`) or `genotype.json` (`components.export.weights`), a
program in the `MLmodel` or `genotype.json` next to it. No code that is stored with a model runs.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from pydantic import TypeAdapter
from safetensors import safe_open
from torch import nn

from components.export.manifest import GENOTYPE, WEIGHTS
from components.export.weights import read_network
from components.registry.lookup import CHAMPION, answer_of, open_registry
from components.registry.model_registry import use
from components.registry.teacher_files import FINAL, FORMS, KINDS, MLFLOW, PROGRAM
from components.registry.test_sets import UnusableModel, load_model, load_program
from components.tracking.client import sqlite_path
from components.tracking.registered_models import find_model
from nascore.config import SpaceConfig
from nascore.data.findings import join_first
from nascore.errors import CheckpointError, GenotypeNotInSpace, InputError
from nascore.files import sha256_of
from nascore.redaction import redact
from nascore.spaces.base import make_space
from nascore.training.distillation import KEY, TeacherTask
from nascore.training.ensemble import MEMBERS, Ensemble, member_folders
from nascore.training.final_model import DeployedModel, FinalModel

MODELS = "models:/"
_REGISTERED = re.compile(r"(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))?")
_NO_CLASSES = "does not say its classes and their order, so that its answers cannot be used"


def is_registered(text: str) -> bool:
    """Return whether a teacher is a name in the registry, and no path of this machine."""
    if text.startswith(MODELS):
        return True
    return not Path(text).exists() and _REGISTERED.fullmatch(text) is not None


def pinned(text: str, *, uri: str) -> str:
    """Return a registered teacher with its present version, such as `models:/digits/3`.

    Args:
        text: value of `training.teacher`; a path is returned as it is.
        uri: MLflow store.

    Raises:
        InputError: there is no such model, version or alias.
        Exception: of MLflow's client, when the registry does not answer or refuses the account.
    """
    if not is_registered(text):
        return text
    match = _REGISTERED.fullmatch(text.removeprefix(MODELS))
    if match is None:
        raise InputError.of(KEY, redact(text), f"is no name of a registered model; {FORMS}")
    name, alias, version = match["name"], match["alias"], match["version"]
    file = sqlite_path(uri)
    is_new = file is not None and not file.exists()  # it has no models, and is not made for that
    client = None if is_new else open_registry(uri)
    model = None if client is None else find_model(client, name)
    if client is None or model is None:
        message = f"there is no registered model {name} in tracking.uri, and no such path; {FORMS}"
        raise InputError.of(KEY, redact(text), message)
    if version is None:
        version = model.aliases.get(alias or CHAMPION)
    if version is None:
        known = ", ".join(sorted(model.aliases)) or "none"
        message = (
            f"the model {name} has no alias {alias or CHAMPION} (aliases: {known}); name a version "
            f"as {name}/1"
        )
        raise InputError.of(KEY, redact(text), message)
    if answer_of(lambda: client.get_model_version(name, str(version))) is None:
        found = sorted(int(one.version) for one in client.search_model_versions(f"name='{name}'"))
        message = f"the model {name} has no version {version}, but {join_first(found) or 'none'}"
        raise InputError.of(KEY, redact(text), message)
    return f"{MODELS}{name}/{version}"


def load_teacher(
    text: str, *, uri: str, folder: Path, copy: Path | None = None
) -> tuple[nn.Module, TeacherTask]:
    """Return a teacher in evaluation mode, pixels of 0..255 to logits first, and its task.

    Args:
        text: from `pinned`.
        uri: MLflow store.
        folder: for the files of a registered model; may be removed afterwards.
        copy: path of the copy of a teacher in S3; may be removed afterwards.

    Raises:
        InputError: it cannot be loaded, or does not say its classes.
        MlflowException: the files of a registered model cannot be fetched now.
    """
    if not is_registered(text):
        return _of_path(Path(text).expanduser() if copy is None else copy, name=redact(text))
    use(uri)
    try:
        path = Path(mlflow.artifacts.download_artifacts(artifact_uri=text, dst_path=str(folder)))
    except MlflowException as error:
        if answer_of(lambda: open_registry(uri).get_model_version(*_parts(text))) is not None:
            raise
        raise InputError.of(KEY, text, "is not in the registry any more") from error
    return _of_mlflow(path, name=text, identity=text)


def _parts(text: str) -> tuple[str, str]:
    name, _, version = text.removeprefix(MODELS).rpartition("/")
    return name, version


def _of_path(path: Path, *, name: str) -> tuple[nn.Module, TeacherTask]:
    if path.is_file():
        return _of_program(path, name=name)
    loaders = {
        FINAL: _of_final,
        GENOTYPE: _of_exported,
        MEMBERS: _of_ensemble,
        MLFLOW: _of_mlflow,
    }
    for file, load in loaders.items():
        if (path / file).is_file():
            try:
                return load(path, name=name)
            except (
                CheckpointError,
                GenotypeNotInSpace,
                OSError,
                RuntimeError,  # weights of another network
                ValueError,
                KeyError,
                TypeError,
            ) as error:
                line = (str(error).strip().splitlines() or [type(error).__name__])[0]
                message = f"is damaged, or of another version ({redact(line)[:200]}); {FORMS}"
                raise InputError.of(KEY, name, message) from error
    if not path.exists():
        raise InputError.of(KEY, name, f"there is no such file or folder; {FORMS}")
    message = f"contains none of {', '.join(KINDS)}; {FORMS}"
    raise InputError.of(KEY, name, message)


def _of_final(path: Path, *, name: str) -> tuple[nn.Module, TeacherTask]:
    """Load the folder of a final model, which `train_final` writes."""
    origin = json.loads((path / FINAL).read_text()).get("origin")
    if origin is None:
        raise InputError.of(KEY, name, f"{_NO_CLASSES}; train it again with this version")
    space = make_space(TypeAdapter(SpaceConfig).validate_python(origin["space"]))
    final = FinalModel.load(path, space)
    model = DeployedModel(final.network, _Normalised(origin["mean"], origin["std"])).eval()
    identity = sha256_of(path / "weights.pt")
    classes = tuple(origin["classes"])
    return model, TeacherTask(name, identity, classes, final.shape.channels, final.shape.size)


def _of_ensemble(path: Path, *, name: str) -> tuple[nn.Module, TeacherTask]:
    """Load the finalists of a search, in the folder `ensemble` of a final model."""
    members = [_of_final(one, name=name) for one in member_folders(path)]
    model = Ensemble([network for network, _ in members]).eval()
    identity = "+".join(task.identity[:16] for _, task in members)
    return model, replace(members[0][1], identity=identity)


def _of_exported(path: Path, *, name: str) -> tuple[nn.Module, TeacherTask]:
    """Load a folder that a run has exported."""
    described = json.loads((path / GENOTYPE).read_text())
    classes, shape = _classes(described, name), described["shape"]
    network = read_network(path)
    with safe_open(path / WEIGHTS, framework="pt") as file:
        scale_C11, shift_C11 = (file.get_tensor(key) for key in ("scale_C11", "shift_C11"))
    std = 1 / (255 * scale_C11.flatten())
    mean = -shift_C11.flatten() * std
    model = DeployedModel(network, _Normalised(mean.tolist(), std.tolist())).eval()
    identity = sha256_of(path / WEIGHTS)
    return model, TeacherTask(name, identity, classes, shape["channels"], shape["size"])


def _of_mlflow(path: Path, *, name: str, identity: str = "") -> tuple[nn.Module, TeacherTask]:
    """Load the folder of a logged model."""
    metadata = Model.load(str(path)).metadata or {}
    classes = _classes(metadata, name)
    _, channels, size, _ = metadata["input"]["shape"]
    try:
        model = load_model(str(path))
    except UnusableModel as error:
        raise InputError.of(KEY, name, f"cannot be loaded: {error}; name another") from error
    identity = identity or sha256_of(path / "data" / "model.pt2")
    return model, TeacherTask(name, identity, classes, channels, size)


def _of_program(path: Path, *, name: str) -> tuple[nn.Module, TeacherTask]:
    """Load a program of torch.export, whose description is next to it or one folder above."""
    if path.suffix != PROGRAM:
        raise InputError.of(KEY, name, f"is no exported program (.pt2); {FORMS}")
    for folder in (path.parent, path.parent.parent):
        if (folder / MLFLOW).is_file():
            metadata: Mapping[str, Any] = Model.load(str(folder)).metadata or {}
            _, channels, size, _ = metadata.get("input", {}).get("shape", [-1, 0, 0, 0])
            break
        if (folder / GENOTYPE).is_file():
            metadata = json.loads((folder / GENOTYPE).read_text())
            channels, size = metadata["shape"]["channels"], metadata["shape"]["size"]
            break
    else:
        message = (
            f"{_NO_CLASSES}: there is neither {MLFLOW} nor {GENOTYPE} next to it; put it "
            "next to the file with which it was exported"
        )
        raise InputError.of(KEY, name, message)
    task = TeacherTask(name, sha256_of(path), _classes(metadata, name), channels, size)
    try:
        return load_program(str(path)), task
    except UnusableModel as error:
        raise InputError.of(KEY, name, f"cannot be loaded: {error}; name another") from error


def _classes(described: Mapping[str, Any], name: str) -> tuple[str, ...]:
    classes = described.get("classes")
    if not classes:
        raise InputError.of(KEY, name, f"{_NO_CLASSES}; name another model")
    return tuple(classes)


class _Normalised:
    """`nascore.data.batches.Statistics` of the data on which a teacher was trained."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        self.mean, self.std = mean, std
