"""Compilation of a `kfp.dsl` pipeline to the file for Kubeflow, and checks of its content."""

import re
import tempfile
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler
from kfp.dsl.base_component import BaseComponent

from components.config.schema import Config
from components.run_state.reference import MOUNT, claim_of
from components.tracking.store_checks import uri_error
from nascore.data.file_access import S3
from nascore.errors import InputError, Problem
from nascore.methods.registry import METHODS
from nascore.redaction import redact_setting
from pipelines.definitions.resources import missing_gpus

# It replaces kfp's executor and takes its arguments. kfp's local runner requires the name of that
# executor in the command.
_COMMAND = ["python3", "-m", "components.supervisor", "kfp.dsl.executor_main"]
_IMAGE = re.compile(
    r"([a-zA-Z0-9.-]+(:\d+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:\w[\w.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_MOVING = ("latest", "main", "master", "dev", "edge", "nightly")
# The same results as Python's, in a tenth of the time.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
BRANCHES = "search or reuse"
"""Name of the task that holds both branches of a retraining."""
_OPEN = "anybody who can read the pipeline could read the password"


def write(pipeline: BaseComponent, path: Path, *, image: str, for_cluster: bool) -> None:
    """Write a pipeline's IR YAML.

    The same pipeline and image give the same bytes.

    Args:
        pipeline: pipeline to compile.
        path: file to write.
        image: image of all steps.
        for_cluster: whether steps run in the image; they then get its name and the pipeline's in
            environment variables.
    """
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(compiled))
        documents = list(yaml.load_all(compiled.read_text(), Loader=_LOADER))
    added = {"NAS_IMAGE": image, "NAS_PIPELINE": documents[0]["pipelineInfo"]["name"]}
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        container = executor["container"]
        container["image"] = image
        container["command"] = _command(container)
        if not for_cluster:
            container.pop("env", None)  # there is no supervisor on this machine
        else:
            variables = [{"name": name, "value": value} for name, value in added.items()]
            container["env"] = [*container.get("env", ()), *variables]
    for group in [documents[0]["root"], *documents[0]["components"].values()]:
        tasks = group.get("dag", {}).get("tasks", {})
        _name_branches(tasks)
        _reduce_dependencies(tasks)
    if for_cluster:
        _shorten(documents[0])
        _shorten_environment(documents[1:])
    text = yaml.dump_all(documents, Dumper=_DUMPER, sort_keys=True)
    path.write_text(text, encoding="utf-8")


def _command(container: dict[str, Any]) -> list[str]:
    """Return a command that runs code of the image, instead of a shell and the step's source."""
    arguments = container["args"]
    assert "--executor_input" in arguments, "kfp launches components in another way"
    assert "--function_to_execute" in arguments, "kfp launches components in another way"
    return list(_COMMAND)


def _name_branches(tasks: dict[str, Any]) -> None:
    """Name the task that holds the branches of a condition.

    kfp makes it without a name (kfp.dsl.tasks_group.ConditionBranches), so that the UI would show
    its key, `condition-branches-1`.
    """
    for key, task in tasks.items():
        if key.startswith("condition-branches"):
            task["taskInfo"]["name"] = BRANCHES


def _reduce_dependencies(tasks: dict[str, Any]) -> None:
    """Remove each task that another one waits for anyway from those that a task waits for.

    kfp lists the producers of all inputs, and the UI draws an arrow for each besides those of the
    inputs. The order of the tasks stays the same.
    """
    waits_for = {key: set(task.get("dependentTasks", ())) for key, task in tasks.items()}

    def before(key: str) -> set[str]:
        return waits_for[key].union(*map(before, waits_for[key]))

    for key, task in tasks.items():
        implied = set().union(*map(before, waits_for[key]))
        if implied:
            task["dependentTasks"] = sorted(waits_for[key] - implied)


def _shorten(pipeline: dict[str, Any]) -> None:
    """Remove descriptions of the inputs and outputs of steps; those of the pipeline remain.

    Argo's status of a run has the specification of each step eight times, and must stay below 1 MB.
    """
    for component in pipeline["components"].values():
        for part in ("inputDefinitions", "outputDefinitions"):
            for kind in component.get(part, {}).values():
                for definition in kind.values():
                    definition.pop("description", None)


def _shorten_environment(platforms: list[dict[str, Any]]) -> None:
    """Remove what kfp-kubernetes writes twice, or as a default, about Secrets and ConfigMaps.

    It writes a constant name as the value of a parameter, too; KFP's driver reads the name where
    there is no parameter. Argo's status has each of them eight times, as in `_shorten`.
    """
    for platform in platforms:
        executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        for executor in executors.values():
            for one in [*executor.get("secretAsEnv", ()), *executor.get("configMapAsEnv", ())]:
                for kind in ("secretName", "configMapName"):
                    if one.get(kind):
                        one.pop(f"{kind}Parameter", None)
                if one.get("optional") is False:
                    del one["optional"]


def check_cluster(config: Config) -> None:
    """Check that a configuration can run on a cluster.

    Raises:
        InputError: workers share no database, a step needs a GPU and gets none, results would be
            lost with a pod, or the configuration contains a password.
    """
    problems = missing_gpus(config)
    storage, uri = config.search.storage, config.tracking.uri
    shares_study = METHODS[config.method].worker_layout == "study"
    if storage is None and config.search.workers > 1 and shares_study:
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
    elif uri_error(uri):
        problems.append(Problem("tracking.uri", uri, uri_error(uri)))
    problems += _export_problems(config)
    if problems:
        raise InputError(problems)


def _storage_problems(storage: str) -> list[Problem]:
    if storage.startswith("env:"):
        return []
    if "://" not in storage:  # not printed, since it may be part of an address with a password
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
    root, state = config.promote.export_to, config.cluster.state
    if root is None or root.startswith(S3):
        return []
    has_volume = state is not None and claim_of(state) is not None
    if has_volume and Path(root).is_relative_to(MOUNT):
        return []
    message = (
        f"a folder is gone with its pod; give s3://BUCKET/PREFIX, or a folder below {MOUNT} "
        "and cluster.state=pvc:NAME"
    )
    return [Problem("promote.export_to", root, message)]


def check_image(image: str) -> None:
    """Raise InputError unless the image is named by a digest or by a tag that never moves."""
    if not _IMAGE.fullmatch(image):
        raise InputError.of(
            "--image",
            image,
            "is no name of an image; write REGISTRY/NAME:TAG or NAME@sha256:DIGEST",
        )
    name = image.rpartition("/")[2]
    tag = name.partition(":")[2]
    if "@sha256:" in image or (tag and tag.lower() not in _MOVING):
        return
    raise InputError.of(
        "--image",
        image,
        f"name a digest or a tag that never moves (not {', '.join(_MOVING)}): KFP and the nodes "
        "know an image by its name",
    )


def load(path: Path) -> dict[str, Any]:
    """Return the first document of a compiled pipeline."""
    document: dict[str, Any] = next(iter(yaml.load_all(path.read_text(), Loader=_LOADER)))
    return document
