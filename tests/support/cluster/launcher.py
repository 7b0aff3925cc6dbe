"""KFP's launcher around a task's container: inputs to files, files to outputs."""

import copy
import json
from collections.abc import Callable
from typing import Any

from cluster.driver import Driver, Execution, local_path, protojson
from cluster.pod import Pod
from cluster.spec import Json
from cluster.store import ArtifactStore, StoreError

_OUTPUT_FIELDS = {"parameterValues", "parameter_values", "artifacts", "taskConfig"}


class LauncherError(Exception):
    """The launcher fails: the container ends with exit code 1."""


def copy_for_try(executor_input: Json, attempt: int) -> Json:
    """All tries write to one place but the log (K: v2/component/launcher_v2.go
    qualifyExecutorLogsURI)."""
    copied: Json = copy.deepcopy(executor_input)
    (logs,) = copied["outputs"]["artifacts"]["executor-logs"]["artifacts"]
    logs["uri"] = f"{logs['uri']}-{attempt}"
    return copied


def command(words: list[str], executor_input: Json, component: Json) -> tuple[str, ...]:
    """Fill in placeholders (K: v2/component/launcher_v2.go compileCmdAndArgs)."""
    given = executor_input["inputs"]["parameterValues"]
    known = component.get("inputDefinitions", {}).get("parameters", {})
    defaults = {name: one["defaultValue"] for name, one in known.items() if "defaultValue" in one}
    inputs = {**executor_input["inputs"], "parameterValues": {**defaults, **given}}
    whole = protojson(_without_empty({**executor_input, "inputs": inputs}))
    filled = tuple(word.replace("{{$}}", whole) for word in words)
    assert not any("{{$." in word.replace(whole, "") for word in filled), "unknown placeholder"
    return filled


def _without_empty(message: Json) -> Json:
    """protojson leaves out maps without entries."""
    return {
        key: {name: one for name, one in value.items() if one != {}}
        for key, value in message.items()
    }


def fetch(pod: Pod, executor_input: Json, store: ArtifactStore) -> None:
    """Download inputs and make the folders that outputs go into, but not the outputs.

    Raises:
        LauncherError: the store is away for longer than the launcher's client is patient.
    """
    try:
        for group in executor_input["inputs"]["artifacts"].values():
            for one in group["artifacts"]:
                store.download(one["uri"], pod.path(local_path(one["uri"])))
    except StoreError as error:
        raise LauncherError(f"failed to download input artifact: {error}") from error
    outputs = executor_input["outputs"]  # K: launcher_v2.go prepareOutputFolders
    for one in outputs["parameters"].values():
        pod.path(one["outputFile"]).parent.mkdir(parents=True, exist_ok=True)
    for group in outputs["artifacts"].values():
        for one in group["artifacts"]:
            pod.path(local_path(one["uri"])).parent.mkdir(parents=True, exist_ok=True)


def conclude(
    pod: Pod,
    made: Execution,
    executor_input: Json,
    driver: Driver,
    store: ArtifactStore,
    *,
    before_upload: Callable[[], None] = lambda: None,
) -> None:
    """Read the outputs of a container that ended well, upload and publish them.

    Raises:
        LauncherError: outputs cannot be read, or the store is away (N9).
    """
    outputs = executor_input["outputs"]
    written = _executor_output(pod, outputs["outputFile"])
    parameters = {**written.get("parameter_values", {}), **written.get("parameterValues", {})}
    definitions = made.component.get("outputDefinitions", {}).get("parameters", {})
    for name, one in outputs["parameters"].items():
        if name not in parameters:
            parameters[name] = _parameter(
                pod, name, one["outputFile"], definitions[name]["parameterType"]
            )
    before_upload()
    artifacts = {}
    for name, group in outputs["artifacts"].items():
        (one,) = group["artifacts"]
        said = written.get("artifacts", {}).get(name, {}).get("artifacts", [{}])[0]
        if name == "executor-logs":
            said = {}
        metadata = {**one.get("metadata", {}), **said.get("metadata", {})}
        merged = {**one, "uri": said.get("uri") or one["uri"], "metadata": metadata}
        upload(pod, merged, store)
        artifacts[name] = driver.record(merged)
    made.out_parameters, made.out_artifacts = parameters, artifacts


def upload(pod: Pod, artifact: Json, store: ArtifactStore) -> None:
    is_log = artifact["name"] == "executor-logs"
    path = pod.log if is_log else pod.path(local_path(artifact["uri"]))
    try:
        store.upload(path, artifact["uri"])
    except StoreError as error:
        raise LauncherError(f"failed to upload output artifact: {error}") from error


def _executor_output(pod: Pod, within: str) -> Json:
    """K: v2/component/launcher_v2.go getExecutorOutputFile, protojson.Unmarshal (L6)."""
    path = pod.path(within)
    if not path.exists():
        return {}
    try:
        written: Json = json.loads(path.read_text(), parse_constant=_refuse)
        if unknown := set(written) - _OUTPUT_FIELDS:
            raise ValueError(f"unknown field {sorted(unknown)}")
    except ValueError as error:
        raise LauncherError(f"failed to unmarshall ExecutorOutput in file: {error}") from error
    return written


def _refuse(constant: str) -> None:
    raise ValueError(f"invalid value {constant}")


def _parameter(pod: Pod, name: str, within: str, kind: str) -> Any:
    """K: v2/metadata/converter.go TextToPbValue."""
    try:
        text = pod.path(within).read_text()
        if kind == "STRING":
            return text
        if kind == "BOOLEAN":
            return {"true": True, "false": False}[text.strip().lower()]
        if kind in ("NUMBER_INTEGER", "NUMBER_DOUBLE"):
            return float(int(text) if kind == "NUMBER_INTEGER" else text)
        return json.loads(text, parse_constant=_refuse)
    except (OSError, ValueError, KeyError) as error:
        raise LauncherError(f"failed to read output parameter {name}: {error!r}") from error
