"""What a compiled pipeline says about itself: variables of its steps, configuration, parameters."""

from collections.abc import Iterator, Mapping
from typing import Any

from components.config.merge import apply_overrides, read_mapping
from components.config.parameter_values import unchecked
from components.steps.compiled import Compiled
from nascore.errors import InputError
from pipelines.kubeflow.client import JsonObject

_OURS = "NAS_PIPELINE"  # a variable of the steps of every pipeline that we compile
_CONFIG = "config"
_COMPILED = "compiled"


def inner(pipeline: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a pipeline without its platform settings, which a request may put around it."""
    found: Mapping[str, Any] = pipeline.get("pipeline_spec") or pipeline
    return found


def containers(pipeline: Mapping[str, Any]) -> Iterator[JsonObject]:
    """Yield the containers of the steps."""
    executors = (inner(pipeline).get("deploymentSpec") or {}).get("executors") or {}
    for executor in executors.values():
        if "container" in executor:
            yield executor["container"]


def variables(pipeline: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield names and values of the environment variables of the steps."""
    for container in containers(pipeline):
        for variable in container.get("env") or []:
            yield str(variable.get("name")), str(variable.get("value"))


def our_name(pipeline: Mapping[str, Any]) -> str:
    """Return the name that this project has compiled into a pipeline; empty for a foreign one."""
    return next((value for name, value in variables(pipeline) if name == _OURS), "")


def declared(pipeline: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the definitions of a pipeline's parameters by name."""
    definitions = (inner(pipeline).get("root") or {}).get("inputDefinitions") or {}
    found: Mapping[str, Any] = definitions.get("parameters") or {}
    return found


def compiled_config(pipeline: Mapping[str, Any]) -> str:
    """Return the configuration that is compiled into a pipeline, as JSON; empty without one.

    It is a constant of the first step. In pipelines of older versions of the project it is the
    default of a parameter.
    """
    if _CONFIG in declared(pipeline):
        return str(declared(pipeline)[_CONFIG].get("defaultValue") or "")
    return str(_constant(pipeline, _CONFIG) or "")


def pods_of(pipeline: Mapping[str, Any]) -> Compiled:
    """Return what is compiled into a pipeline and no parameter can change, such as its pods."""
    return Compiled.of(_constant(pipeline, _COMPILED) or {"searches": False})


def _constant(pipeline: Mapping[str, Any], name: str) -> Any:
    """Return the constant that the first step has for an input; None if it has none.

    The exit task has the configuration without `cluster`.
    """
    spec = inner(pipeline)
    for group in (spec.get("root") or {}, *(spec.get("components") or {}).values()):
        for task in ((group.get("dag") or {}).get("tasks") or {}).values():
            given = (task.get("inputs") or {}).get("parameters") or {}
            if _COMPILED in given and name in given:
                return (given[name].get("runtimeValue") or {}).get("constant")
    return None


def config_of_run(pipeline: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration of a run unchecked: it may be wrong or of an older version.

    Args:
        pipeline: compiled pipeline of the run.
        given: values of its parameters by name.
    """
    try:
        if _CONFIG in given or _CONFIG in declared(pipeline):  # of an older version of the project
            text = str(given.get(_CONFIG) or compiled_config(pipeline))
            return apply_overrides(read_mapping(text, _CONFIG), str(given.get("overrides") or ""))
        texts = {name: str(value) for name, value in given.items() if value is not None}
        return unchecked(compiled_config(pipeline), texts)
    except InputError:
        return {}
