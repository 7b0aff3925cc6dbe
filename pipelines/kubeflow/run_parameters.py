"""Settings of a run: those that are compiled into its pipeline, and those that are parameters.

A setting of a parameter goes to the run, so that the compiled text and with it the version stay the
same. All others shape the compiled pipeline.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.config.parameter_values import resolve as with_parameters
from components.config.parameters import PARAMETERS, SETTINGS
from components.config.schema import Config, dumps
from components.steps.compiled import Compiled
from nascore.errors import InputError
from pipelines.config import resolve
from pipelines.definitions.kinds import Kind

_COMPILED = frozenset({"workers"})  # the number of pods
_WITH_METHOD = _COMPILED | {"method"}
_BY_KEY = {one.key: one for one in PARAMETERS}


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Settings of a run.

    Attributes:
        compiled: the configuration that is compiled into the pipeline.
        parameters: values of the pipeline's parameters by name.
    """

    compiled: Config
    parameters: Mapping[str, str]


def divide(
    kind: Kind,
    config: Config,
    *,
    file: Path | None,
    preset: str | None,
    settings: Iterable[str],
) -> RunSettings:
    """Divide the settings of a run so that its compiled text depends on as few as possible.

    The first step lays the parameters over the compiled configuration. Where that would not give
    `config` with the same pods, as when a method comes with the preset `paper`, more is compiled.

    Args:
        kind: of the pipeline.
        config: configuration of the run, which all the others together give.
        file: YAML, or None.
        preset: name; None for the default.
        settings: `key.path=value`.
    """
    texts = tuple(settings)
    values = parameters_of(texts)
    for compiled in (_COMPILED, _WITH_METHOD):
        names = values.keys() - compiled
        below = [text for text in texts if _name_of(text) not in names]
        base = _base(kind, config, file=file, preset=preset, settings=below)
        if base is not None and _gives(base, values, config):
            return RunSettings(base, values)
    return RunSettings(config, values if _gives(config, values, config) else {})


def parameters_of(settings: Iterable[str]) -> dict[str, str]:
    """Return the settings that parameters have, as values of these by name.

    The last setting of a key counts. A mapping or list is no value of a parameter.
    """
    values = {}
    for setting in settings:
        parameter = _BY_KEY.get(_key(setting))
        text = _text(setting.partition("=")[2])
        if parameter is not None and text is not None:
            values[parameter.name] = text
    return values


def all_as_parameters(settings: Iterable[str]) -> dict[str, str]:
    """Return settings as values of parameters, those without one of their own in `settings`."""
    texts = tuple(settings)
    values = parameters_of(texts)
    others = [text for text in texts if _name_of(text) not in values]
    return values | ({SETTINGS: "\n".join(others)} if others else {})


def _key(setting: str) -> str:
    return setting.partition("=")[0].strip()


def _name_of(setting: str) -> str | None:
    parameter = _BY_KEY.get(_key(setting))
    return None if parameter is None else parameter.name


def _text(value: str) -> str | None:
    """Return a YAML scalar as the text that a user would type into a form."""
    try:
        read: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        return None
    if isinstance(read, str):
        return read
    return None if isinstance(read, dict | list) else value.strip()


def _base(
    kind: Kind, config: Config, *, file: Path | None, preset: str | None, settings: list[str]
) -> Config | None:
    """Return a configuration to compile with the same pods as `config`; None if there is none."""
    from pipelines.definitions.compiling import check_cluster

    try:
        base = resolve(file, preset, settings)
        check_cluster(base)
    except InputError:
        return None
    return base if _pods(kind, base) == _pods(kind, config) else None


def _pods(kind: Kind, config: Config) -> Compiled:
    from pipelines.definitions import retrain, search
    from pipelines.definitions.resources import without_gpu

    most = search.MOST_PODS if kind == "search" else retrain.MOST_PODS
    workers = search.division(config, for_cluster=True, most_pods=most)
    return Compiled(workers, without_gpu(config), searches=kind == "search")


def _gives(base: Config, values: Mapping[str, str], config: Config) -> bool:
    """Return whether the first step makes `config` of a compiled one and the parameters."""
    try:
        return with_parameters(dumps(base), values) == config
    except InputError:
        return False
