"""The whole configuration of a run, checked, with every problem told at once."""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from components.explain import problem_of, suggest, truths
from components.settings import PromoteConfig, TrackingConfig
from nascore.config import DataConfig, LatencyConfig, SearchConfig, Section, TrainingConfig
from nascore.errors import InputError, Problem
from nascore.methods import METHODS

_SectionT = TypeVar("_SectionT", bound=Section)

DEFAULT_METHOD = "nases"
_NOT_TO_MIRROR = ("digits", "omniglot")


class Config(Section):
    """One run, from data to promotion."""

    method: str = DEFAULT_METHOD
    """A name in `nascore.methods.METHODS`."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Everything random derives from it."""
    data: DataConfig = DataConfig()
    search: SearchConfig = SearchConfig()
    train: TrainingConfig = TrainingConfig(epochs=40)
    """How the winner is trained; `search.child` is how it was found."""
    latency: LatencyConfig = LatencyConfig()
    promote: PromoteConfig = PromoteConfig()
    tracking: TrackingConfig = TrackingConfig()


def parse(data: Mapping[str, Any], *, also: Iterable[Problem] = ()) -> Config:
    """A checked configuration, with the method's own options completed by their defaults.

    Args:
        also: problems that were found before; they are told in the same message.

    Raises:
        InputError: listing every problem of every section, those of `search.options` included.
    """
    problems = list(also)
    config = _validate(Config, data, problems)
    options = _options(data, problems)
    if config is not None:
        problems += _contradictions(config)
    if problems or config is None:
        raise InputError(problems)
    search = config.search.model_copy(update={"options": options})
    return config.model_copy(update={"search": search})


def dumps(config: Config) -> str:
    """The configuration as JSON; `loads` reads it."""
    return config.model_dump_json()


def loads(text: str) -> Config:
    """Reads what `dumps` wrote, or another JSON object of that form.

    Raises:
        InputError: as `parse`.
    """
    return parse(json.loads(text))


def _validate(
    section: type[_SectionT], data: object, problems: list[Problem], *prefix: str
) -> _SectionT | None:
    """The section, or None and its problems."""
    found = []
    try:
        result = section.model_validate(data)
    except ValidationError as error:
        found = [problem_of(section, item, prefix) for item in error.errors()]
    told = {problem.key for problem in found}
    found += [problem for problem in truths(section, data, prefix) if problem.key not in told]
    problems += found
    return None if found else result


def _options(data: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    """The method's options, all of them; what is no name or no group is told by `Config`."""
    method = data.get("method", DEFAULT_METHOD)
    if not isinstance(method, str):
        return {}
    if method not in METHODS:
        problems.append(
            Problem("method", repr(method), "unknown method" + suggest(method, METHODS))
        )
        return {}
    search = data.get("search")
    given = search.get("options", {}) if isinstance(search, Mapping) else {}
    if not isinstance(given, Mapping):
        return {}
    options = _validate(METHODS[method].options, given, problems, "search", "options")
    return {} if options is None else options.model_dump(mode="json")


def _contradictions(config: Config) -> list[Problem]:
    """What no single section can see."""
    problems = []
    size, source = config.data.image_size, config.data.source
    for key, training in (("search.child", config.search.child), ("train", config.train)):
        if size is not None and training.crop_padding >= size:
            problems.append(
                Problem(
                    f"{key}.crop_padding",
                    str(training.crop_padding),
                    f"must be smaller than data.image_size={size}; 4 suits 32 pixels",
                )
            )
        if size is not None and training.cutout >= size:
            problems.append(
                Problem(
                    f"{key}.cutout",
                    str(training.cutout),
                    f"must be smaller than data.image_size={size}, or nothing of an image is left",
                )
            )
        if training.flip and source in _NOT_TO_MIRROR:
            problems.append(
                Problem(f"{key}.flip", "true", f"mirrored {source} are wrong; set it to false")
            )
    return problems
