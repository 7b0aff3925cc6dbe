"""The configuration of a run: its sections, how it is parsed, and its JSON."""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Generic

from pydantic import ConfigDict, Field
from typing_extensions import TypeVar  # typing.TypeVar has no default before Python 3.13

from components.config.consistency import problems_between_sections
from components.config.settings import (
    ClusterConfig,
    PromoteConfig,
    RegistryConfig,
    RetrainConfig,
    S3Config,
    TrackingConfig,
)
from components.config.unknown_keys import suggest
from components.config.validation import validate
from nascore.config import (
    CommonTrainingConfig,
    DataConfig,
    LatencyConfig,
    OwnTrainingConfig,
    SearchConfig,
    Section,
)
from nascore.errors import InputError, Problem
from nascore.methods.common.method_options import MethodOptions
from nascore.methods.registry import METHODS
from nascore.redaction import redact

OptionsT = TypeVar("OptionsT", bound=MethodOptions, default=MethodOptions, covariant=True)

DEFAULT_METHOD = "nases"


class Config(Section, Generic[OptionsT]):
    """One run, from data to promotion; `config_class` is that of one method."""

    method: str = DEFAULT_METHOD
    """Search method; `nas config NAME` lists the settings of one."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of all random numbers of a run."""
    data: DataConfig = DataConfig()
    search: SearchConfig[OptionsT] = Field(default_factory=lambda: {})  # type: ignore[arg-type]
    train: OwnTrainingConfig = OwnTrainingConfig(epochs=40)
    """Training of the final network; `search.child` is the training of a child."""
    training: CommonTrainingConfig = CommonTrainingConfig()
    """What all trainings share: of children, of shared weights and of the final network."""
    latency: LatencyConfig = LatencyConfig()
    reference: tuple[str, ...] | None = None
    """Standard networks to compare with the found one: `standard`, or classification networks of
    torchvision by name, without pretrained weights. By default two by the size of the images, if
    search and final training take a minute or more; [] compares with none."""
    reference_share: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Training time of each reference network, as a share of search and final training."""
    registry: RegistryConfig = RegistryConfig()
    promote: PromoteConfig = PromoteConfig()
    retrain: RetrainConfig = RetrainConfig()
    tracking: TrackingConfig = TrackingConfig()
    s3: S3Config = S3Config()
    cluster: ClusterConfig = ClusterConfig()


class _AnyOptions(MethodOptions):
    """Options of a method that is unknown, about which nothing can be said."""

    model_config = ConfigDict(extra="allow")


def config_class(method: object) -> type[Config]:
    """Return the class of the configurations of a method, whose `search.options` are its own."""
    is_known = isinstance(method, str) and method in METHODS
    options = METHODS[str(method)].options if is_known else _AnyOptions
    return Config[options]  # type: ignore[valid-type]


def parse(data: Mapping[str, Any], *, also: Iterable[Problem] = ()) -> Config:
    """Return a checked configuration; what is not given has its default.

    Args:
        also: problems that were found before; they are reported in the same message.

    Raises:
        InputError: listing every problem of every section.
    """
    problems = list(also)
    if not isinstance(data, Mapping):
        not_group = Problem("configuration", str(data), "must be a group of keys")
        raise InputError([*problems, not_group])
    method = data.get("method", DEFAULT_METHOD)
    if isinstance(method, str) and method not in METHODS:
        message = "unknown method" + suggest(method, METHODS)
        problems.append(Problem("method", repr(method), message))
    validated = validate(config_class(method), data)
    problems += validated.problems
    config = validated.section
    if config is not None:
        config = config.model_copy(update={"data": _with_split_kind(config)})
        problems += problems_between_sections(config, validated.refused)
    if problems or config is None:
        raise InputError(problems)
    return config


def _with_split_kind(config: Config) -> DataConfig:
    """Return the data with splits of the kind that the method needs, where none is given."""
    method = METHODS.get(config.method)
    if method is None or config.data.split_by is not None:
        return config.data
    return config.data.model_copy(update={"split_by": method.split_by})


def dumps(config: Config) -> str:
    """Return the configuration as JSON; `loads` reads it."""
    return config.model_dump_json()


def shown(config: Config) -> dict[str, Any]:
    """Return the configuration for everyone who can read a run: URLs without their passwords."""
    data = config.model_dump(mode="json")
    data["tracking"]["uri"] = redact(config.tracking.uri)
    data["search"]["storage"] = redact(config.search.storage or "") or None
    return data


def loads(text: str) -> Config:
    """Read what `dumps` wrote, or another JSON object of that form.

    Raises:
        InputError: as `parse`.
    """
    return parse(json.loads(text))
