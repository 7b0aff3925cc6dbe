"""KFP's driver with ML Metadata: inputs, conditions and iterations of tasks, places of outputs."""

import itertools
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.spec import Json, Pipeline

_DONE = ("COMPLETE", "CACHED", "CANCELED")
EXIT = "ALL_UPSTREAM_TASKS_COMPLETED"


class DriverError(Exception):
    """The driver's pod fails, with exit code 1."""


@dataclass(slots=True)
class Execution:
    """One execution in ML Metadata: a container task, a sub-DAG, a loop or one iteration of it.

    Attributes:
        state: as the launcher publishes it; one whose pod was lost stays RUNNING.
        count: iterations of a loop.
        children: the latest execution of each task of a DAG, by name.
    """

    id: int
    task: str
    component: Json
    parent: "Execution | None"
    parameters: Json
    artifacts: dict[str, Json]
    state: str = "RUNNING"
    count: int | None = None
    item: str = ""
    items: list[Any] = field(default_factory=list)
    out_parameters: Json = field(default_factory=dict)
    out_artifacts: dict[str, Json] = field(default_factory=dict)
    children: dict[str, "Execution"] = field(default_factory=dict)

    def settled(self) -> str:
        """Return the state as the exit task is told it (K: v2/metadata/client.go:800-877).

        It is COMPLETE, FAILED or RUNNING, never SUCCEEDED: and RUNNING also when a pod was lost.
        """
        if "dag" not in self.component or self.state in _DONE:
            return self.state
        expected = len(self.component["dag"]["tasks"]) if self.count is None else self.count
        states = [child.settled() for child in self.children.values()]
        if sum(state in _DONE for state in states) == expected:
            return "COMPLETE"
        return "FAILED" if "FAILED" in states else "RUNNING"


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Names of a run that placeholders stand for."""

    id: str
    name: str
    display_name: str
    created_at: str


class Driver:
    """Makes the executions of one run.

    Args:
        root: URI below which outputs go, such as minio://mlpipeline/v2/artifacts.
        session: what is stored with artifacts about the store that holds them.
    """

    def __init__(self, pipeline: Pipeline, run: RunInfo, *, root: str, session: Json) -> None:
        self.pipeline, self.run = pipeline, run
        self._root, self._session = root, json.dumps(session, separators=(",", ":"))
        self._ids = itertools.count(1)

    def root(self, parameters: Mapping[str, Any]) -> Execution:
        """The root DAG: given parameters, else their defaults (K: v2/driver/root_dag.go)."""
        component = self.pipeline.spec["root"]
        known = component.get("inputDefinitions", {}).get("parameters", {})
        if unknown := set(parameters) - set(known):
            raise DriverError(f"unknown parameters {sorted(unknown)}")
        given = {name: parameters.get(name, one.get("defaultValue")) for name, one in known.items()}
        return Execution(next(self._ids), "root", component, None, given, {})

    def start(self, name: str, parent: Execution) -> Execution:
        """A new execution of a task; a try of an outer level makes another one (N1)."""
        task = parent.component["dag"]["tasks"][name]
        component = self.pipeline.component(task)
        inputs = task.get("inputs", {})
        known = component.get("inputDefinitions", {}).get("parameters", {})
        parameters = {}
        for key, source in inputs.get("parameters", {}).items():
            value = self._parameter(source, task, parent)
            if value is None:  # K: v2/driver/resolve.go resolveInputs, ErrResolvedParameterNull
                if not known.get(key, {}).get("isOptional"):
                    raise DriverError(f"the resolved input parameter is null: {key}")
                continue
            parameters[key] = value
        artifacts = {
            key: self._artifact(source, parent)
            for key, source in inputs.get("artifacts", {}).items()
        }
        made = Execution(next(self._ids), name, component, parent, parameters, artifacts)
        if "parameterIterator" in task:  # K: v2/driver/dag.go "Fan out iterations"
            iterator = task["parameterIterator"]
            source = iterator["items"]
            given = source.get("raw") or parameters.pop(source["inputParameter"])
            made.items = json.loads(given) if isinstance(given, str) else given
            made.item, made.count = iterator["itemInput"], len(made.items)
        else:
            self._check(made)
        condition = task.get("triggerPolicy", {}).get("condition")
        if condition is not None and not holds(condition, parameters):
            made.state = "CANCELED"  # NotTriggered
        parent.children[name] = made
        return made

    def iteration(self, loop: Execution, index: int) -> Execution:
        parameters = {**loop.parameters, loop.item: loop.items[index]}
        made = Execution(
            next(self._ids), loop.task, loop.component, loop, parameters, loop.artifacts
        )
        self._check(made)
        loop.children[str(index)] = made
        return made

    def _check(self, made: Execution) -> None:
        """K: v2/driver/resolve.go:169-256."""
        known = made.component.get("inputDefinitions", {}).get("parameters", {})
        for name, one in known.items():
            value = made.parameters.get(name)
            if value is None:
                made.parameters.pop(name, None)
                if not one.get("isOptional") and "defaultValue" not in one:
                    raise DriverError(f"no value for parameter {name!r} of {made.task}")
            elif one["parameterType"] == "STRING" and not isinstance(value, str):
                made.parameters[name] = protojson(value)

    def _parameter(self, source: Json, task: Json, parent: Execution) -> Any:
        """K: v2/driver/resolve.go:378-486."""
        if "componentInputParameter" in source:
            name = source["componentInputParameter"]
            if name not in parent.parameters:
                raise DriverError(f"parent DAG does not have input parameter {name}")
            return parent.parameters[name]
        if "taskOutputParameter" in source:
            wanted = source["taskOutputParameter"]
            producer, key = parent.children[wanted["producerTask"]], wanted["outputParameterKey"]
            while "dag" in producer.component:
                output = producer.component["dag"]["outputs"]["parameters"][key]
                selected = output["valueFromParameter"]
                producer = producer.children[selected["producerSubtask"]]
                key = selected["outputParameterKey"]
            return producer.out_parameters[key]
        if "taskFinalStatus" in source:
            producer = parent.children[task["dependentTasks"][0]]
            return {
                "state": producer.settled(),
                "pipelineJobResourceName": self.run.name,
                "pipelineTaskName": producer.task,
                "error": {},  # never filled
            }
        value = source["runtimeValue"]["constant"]
        placeholders = {
            "{{$.pipeline_job_name}}": self.run.display_name,
            "{{$.pipeline_job_resource_name}}": self.run.name,
            "{{$.pipeline_job_uuid}}": self.run.id,
            "{{$.pipeline_task_name}}": task["taskInfo"]["name"],
            "{{$.pipeline_job_create_time_utc}}": self.run.created_at,
        }
        return placeholders.get(value, value) if isinstance(value, str) else value

    def _artifact(self, source: Json, parent: Execution) -> Json:
        """K: v2/driver/resolve.go resolveInputArtifact."""
        if "componentInputArtifact" in source:
            return parent.artifacts[source["componentInputArtifact"]]
        wanted = source["taskOutputArtifact"]
        producer, key = parent.children[wanted["producerTask"]], wanted["outputArtifactKey"]
        while "dag" in producer.component:
            selected = producer.component["dag"]["outputs"]["artifacts"][key]["artifactSelectors"][
                0
            ]
            producer = producer.children[selected["producerSubtask"]]
            key = selected["outputArtifactKey"]
        found = producer.out_artifacts.get(key)
        if found is None:
            raise DriverError(f"cannot find output {key} of {producer.task}")
        return found

    # --- what the launcher is given ---------------------------------------------------------

    def executor_input(self, made: Execution) -> Json:
        """As recorded from a real launcher; outputs as K: v2/driver/driver.go provisionOutputs."""
        place = f"{self._root}/{self.pipeline.name}/{self.run.id}/{made.task}/{uuid.uuid4()}"
        definitions = made.component.get("outputDefinitions", {})
        outputs = {
            name: {
                "artifacts": [{"name": name, "type": one["artifactType"], "uri": f"{place}/{name}"}]
            }
            for name, one in definitions.get("artifacts", {}).items()
        }
        outputs["executor-logs"] = {
            "artifacts": [
                {
                    "name": "executor-logs",
                    "type": {"schemaTitle": "system.Artifact"},
                    "uri": f"{place}/executor-logs",
                }
            ]
        }
        parameters = {
            name: {"outputFile": f"/tmp/kfp/outputs/{name}"}
            for name in definitions.get("parameters", {})
        }
        inputs = {name: {"artifacts": [one]} for name, one in made.artifacts.items()}
        return {
            "inputs": {"parameterValues": made.parameters, "artifacts": inputs},
            "outputs": {
                "artifacts": outputs,
                "parameters": parameters,
                "outputFile": f"{local_path(place)}/output_metadata.json",
            },
        }

    def record(self, artifact: Json) -> Json:
        """Return an output artifact as ML Metadata hands it to later tasks."""
        known = {"display_name": artifact["name"], "store_session_info": self._session}
        return {
            "name": str(next(self._ids)),
            "type": {"instanceSchema": ""},
            "uri": artifact["uri"],
            "metadata": {**artifact.get("metadata", {}), **known},
        }


def local_path(uri: str) -> str:
    """K: v2/component/launcher_v2.go LocalPathForURI."""
    scheme, _, rest = uri.partition("://")
    assert scheme in ("minio", "s3"), uri
    return f"/{scheme}/{rest}"


def holds(condition: str, parameters: Mapping[str, Any]) -> bool:
    """Evaluate the part of CEL that kfp's compiler writes (K: v2/expression/expression.go)."""
    python = condition.replace("inputs.parameter_values[", "values[").replace("!(", " not (")
    python = python.replace("&&", " and ").replace("||", " or ")
    names = {"values": parameters, "int": int, "double": float, "true": True, "false": False}
    return bool(eval(re.sub(r"\s+", " ", python).strip(), {"__builtins__": {}}, names))


def protojson(value: Any) -> str:
    """JSON as Go's protojson writes it: whole numbers have no fraction, since all are doubles."""

    def plain(one: Any) -> Any:
        if isinstance(one, dict):
            return {key: plain(each) for key, each in one.items()}
        if isinstance(one, list):
            return [plain(each) for each in one]
        is_whole = isinstance(one, float) and one.is_integer()
        return int(one) if is_whole else one

    return value if isinstance(value, str) else json.dumps(plain(value), separators=(",", ":"))
