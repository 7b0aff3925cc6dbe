"""From a pipeline in `kfp.dsl` to the file that Kubeflow takes, and what must not be in it."""

import tempfile
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler
from kfp.dsl.base_component import BaseComponent

from components.config import Config, dumps
from components.tracking.stores import misnamed
from nascore.data.files import S3
from nascore.errors import InputError, Problem
from nascore.methods import METHODS
from nascore.redaction import redact_setting
from pipelines.resources import STATE_FOLDER, missing_gpus

# What kfp's launcher of lightweight components does in a shell, which an image may not have: the
# source, its first argument, becomes a module. kfp's local runner looks for the executor's name.
_LAUNCH = """\
import os, runpy, sys, tempfile
path = os.path.join(tempfile.mkdtemp(), "ephemeral_component.py")
with open(path, "w", encoding="utf-8") as file:
    file.write(sys.argv[1])
os.environ["_KFP_RUNTIME"] = "true"
sys.argv[1:2] = ["--component_module_path", path]
runpy.run_module("kfp.dsl.executor_main", run_name="__main__", alter_sys=True)
"""
_OPEN = "anybody who can read the pipeline could read the password"


def write(
    pipeline: BaseComponent, config: Config, path: Path, *, image: str, for_cluster: bool
) -> None:
    """Writes a pipeline's IR YAML with `config` as the default of its parameter of that name.

    The same pipeline, configuration and image give the same bytes.

    Args:
        for_cluster: steps run in the image, and are told its name and the pipeline's, which they
            cannot know otherwise.

    Raises:
        InputError: the image has no tag or a moving one.
    """
    check_image(image)
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "pipeline.yaml"
        parameters = {"config": dumps(config)}
        compiler.Compiler().compile(pipeline, str(compiled), pipeline_parameters=parameters)
        documents = list(yaml.safe_load_all(compiled.read_text()))
    told = {"NAS_IMAGE": image, "NAS_PIPELINE": documents[0]["pipelineInfo"]["name"]}
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        container = executor["container"]
        container["image"] = image
        container["command"] = _without_shell(container["command"])
        if for_cluster:
            variables = [{"name": name, "value": value} for name, value in told.items()]
            container["env"] = [*container.get("env", ()), *variables]
    path.write_text(yaml.safe_dump_all(documents, sort_keys=True))


def _without_shell(command: list[str]) -> list[str]:
    shell, flags, script, source = command
    assert (shell, flags) == ("sh", "-ec"), "kfp launches components in another way"
    assert script.count("kfp.dsl.executor_main") == 1, "kfp launches components in another way"
    return ["python3", "-c", _LAUNCH, source]


def check_cluster(config: Config) -> None:
    """Whether it can run on a cluster, as far as the configuration tells.

    Raises:
        InputError: workers have no database in common, a step asks for a GPU that it is not given,
            results would go with a pod, or a password is written down.
    """
    problems = missing_gpus(config)
    storage, uri = config.search.storage, config.tracking.uri
    shares_batches = METHODS[config.method].shares_batches
    if storage is None and config.search.workers > 1 and not shares_batches:
        problems.append(
            Problem(
                "search.storage",
                "",
                "workers on a cluster share a database; give the URL of a PostgreSQL server, or "
                "env:NAME of a variable that holds it",
            )
        )
    if storage is not None:
        problems += _storage_problems(storage)
    if redact_setting(uri) != uri:
        message = "give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD by cluster.secrets"
        problems.append(Problem("tracking.uri", redact_setting(uri), f"{_OPEN}; {message}"))
    elif misnamed(uri):
        problems.append(Problem("tracking.uri", uri, misnamed(uri)))
    problems += _export_problems(config)
    if problems:
        raise InputError(problems)


def _storage_problems(storage: str) -> list[Problem]:
    if storage.startswith("env:"):
        return []
    if "://" not in storage:  # it is not shown: it may be part of an address with a password
        message = "is neither env:NAME nor the URL of a database"
    elif redact_setting(storage) != storage:
        message = (
            f"{_OPEN}; put the URL into a Secret, name it in cluster.secrets, and write env:NAME "
            "here"
        )
    else:
        return []
    shown = redact_setting(storage) if "://" in storage else ""
    return [Problem("search.storage", shown, message)]


def _export_problems(config: Config) -> list[Problem]:
    root, volume = config.promote.export_to, config.cluster.state_volume
    if root is None or root.startswith(S3):
        return []
    if volume is not None and Path(root).is_relative_to(STATE_FOLDER):
        return []
    message = (
        f"a folder is gone with its pod; give s3://BUCKET/PREFIX, or a folder below {STATE_FOLDER} "
        "and cluster.state_volume"
    )
    return [Problem("promote.export_to", root, message)]


def check_image(image: str) -> None:
    """Raises InputError unless the image is named by digest or by a tag that stays."""
    name = image.rpartition("/")[2]
    tag = name.partition(":")[2]
    if "@sha256:" in image or (tag and tag != "latest"):
        return
    raise InputError.of(
        "--image",
        image,
        "name a digest or a tag that never moves (not latest): KFP caches by this name",
    )


def load(path: Path) -> dict[str, Any]:
    """The first document of a compiled pipeline."""
    document: dict[str, Any] = next(iter(yaml.safe_load_all(path.read_text())))
    return document
