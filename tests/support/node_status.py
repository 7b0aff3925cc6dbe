"""How large Argo's status of a workflow becomes, computed from a compiled pipeline.

Argo keeps a node for each template that it runs, with all inputs and outputs as text, in the status
of the workflow. Beyond 1 MB it compresses them, and Kubeflow's list of tasks stands still.

What is counted, for each container task (KFP 2.17, backend/src/v2):
- a driver and its retry wrapper, with the specifications of component, task, container and platform
  as inputs (compiler/argocompiler/container.go, containerDriverTask) and the pod's patch as output;
- the task, its `executor`, and the retry wrappers of both, with the patch as input.
So the patch, which holds the executor's input, the component's specification and the command
(driver/driver.go, initPodSpecPatch), is there six times. A task that is a DAG has a driver, itself,
and wrappers of both. Of branches only one runs.

Measured on real runs of 2026-11-29, when a pipeline still carried the source text of its steps:
528 KB for a search without helpers in 42 nodes, 61 % of it patches. `_NODE` was fitted to that; the
formula gives 528 KB for that pipeline, 60 % of it patches.
"""

import json
from pathlib import Path
from typing import Any

import yaml

LIMIT = 1_000_000
_NODE = 3_600  # name, ids, times, phase, template reference, resources, labels of one node
_NODES_OF_TASK = _COPIES = 6
_SESSION = json.dumps(
    {
        "Provider": "minio",
        "Params": {
            **{"accessKeyKey": "accesskey", "disableSSL": "true", "maxRetries": "5"},
            **{"endpoint": "seaweedfs.kubeflow:9000", "fromEnv": "false", "region": "minio"},
            **{"secretKeyKey": "secretkey", "secretName": "mlpipeline-minio-artifact"},
        },
    }
)
_URI = "minio://mlpipeline/v2/artifacts/nas-search/" + 2 * "0f82d07e-593c-41dd-9dc7-d0dd25be691d/"


def status_bytes(path: Path) -> int:
    """Return the bytes of the status after a run of a compiled pipeline in which nothing failed."""
    spec, platform = yaml.safe_load_all(path.read_text())
    config = _compiled_config(spec)
    root = 4 * _NODE + _length(spec["root"].get("inputDefinitions", {}))
    return root + _dag(spec["root"], spec, platform, config)


def _compiled_config(spec: dict[str, Any]) -> int:
    """Return the length of the configuration, a constant of the first task."""
    every = [spec["root"], *spec["components"].values()]
    for component in every:
        for task in component.get("dag", {}).get("tasks", {}).values():
            given = task.get("inputs", {}).get("parameters", {}).get("config")
            if given is not None:
                return len(given["runtimeValue"]["constant"])
    raise AssertionError("no task has the configuration")


def _dag(component: dict[str, Any], spec: dict[str, Any], platform: Any, config: int) -> int:
    total, branches = 0, [0]
    for task in component["dag"]["tasks"].values():
        below = spec["components"][task["componentRef"]["name"]]
        if "dag" not in below:
            total += _task(task, below, spec, platform, config)
            continue
        total += 4 * _NODE + 2 * (_length(below) + _length(task))
        inside = _dag(below, spec, platform, config)
        if "condition" in task.get("triggerPolicy", {}):
            branches.append(inside)
        else:
            total += inside
    return total + max(branches)


def _task(
    task: dict[str, Any],
    component: dict[str, Any],
    spec: dict[str, Any],
    platform: Any,
    config: int,
) -> int:
    label = component["executorLabel"]
    container = spec["deploymentSpec"]["executors"][label]["container"]
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    patch = {
        "containers": [
            {
                "args": [_executor_input(component, config), json.dumps(component)],
                "command": [*container["command"], *container["args"]],
                "env": [container.get("env", []), executors.get(label, {})],
                "resources": container["resources"],
            }
        ]
    }
    driver = _length(component) + _length(task) + _length(container)
    driver += _length(executors.get(label, {}))
    # The patch is text within the status, which is JSON itself: its quotes are escaped once more.
    return _NODES_OF_TASK * _NODE + _COPIES * _length(json.dumps(patch)) + 2 * driver


def _executor_input(component: dict[str, Any], config: int) -> str:
    """The executor's input in the form of a recorded one."""
    inputs = component.get("inputDefinitions", {})

    def artifact(name: str, **more: Any) -> dict[str, Any]:
        kind = {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}
        return {"artifacts": [{"name": name, "type": kind, "uri": _URI + name, **more}]}

    stored = {"metadata": {"display_name": "x" * 12, "store_session_info": _SESSION}}
    outputs = component.get("outputDefinitions", {}).get("artifacts", {})
    return json.dumps(
        {
            "inputs": {
                "artifacts": {
                    name: artifact(name, **stored) for name in inputs.get("artifacts", {})
                },
                "parameterValues": {
                    name: "x" * (config if name == "config" else 32)
                    for name in inputs.get("parameters", {})
                },
            },
            "outputs": {
                "artifacts": {name: artifact(name) for name in (*outputs, "executor-logs")},
                "outputFile": f"/{_URI}/output_metadata.json",
            },
        }
    )


def _length(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":")))
