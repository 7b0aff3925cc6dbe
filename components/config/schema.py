"""The whole configuration of a run, checked, with every problem told at once."""

import copy
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from components.config.errors import OF_KEY, locate, problem_of, reject_booleans, suggest
from components.config.settings import ClusterConfig, PromoteConfig, RetrainConfig, TrackingConfig
from components.object_store.outputs import uri_error
from nascore.config import (
    SPACE_SECTIONS,
    BalanceConfig,
    CommonTrainingConfig,
    DataConfig,
    LatencyConfig,
    OwnTrainingConfig,
    SearchConfig,
    Section,
)
from nascore.errors import InputError, Problem
from nascore.methods.base import Method
from nascore.methods.registry import METHODS
from nascore.redaction import redact, redact_setting

_SectionT = TypeVar("_SectionT", bound=Section)
_Path = tuple[str, ...]

DEFAULT_METHOD = "nases"
_NOT_TO_MIRROR = ("digits", "omniglot")
_ABOUT_THE_SPACE = (("search",), ("search", "space"), ("search", "options"))


class Config(Section):
    """One run, from data to promotion."""

    method: str = DEFAULT_METHOD
    """A name in `nascore.methods.registry.METHODS`."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Everything random derives from it."""
    data: DataConfig = DataConfig()
    search: SearchConfig = SearchConfig()
    train: OwnTrainingConfig = OwnTrainingConfig(epochs=40)
    """Training of the final network; `search.child` is the training of a child."""
    training: CommonTrainingConfig = CommonTrainingConfig()
    """What all trainings share: of children, of shared weights and of the final network."""
    latency: LatencyConfig = LatencyConfig()
    promote: PromoteConfig = PromoteConfig()
    retrain: RetrainConfig = RetrainConfig()
    tracking: TrackingConfig = TrackingConfig()
    cluster: ClusterConfig = ClusterConfig()


def parse(data: Mapping[str, Any], *, also: Iterable[Problem] = ()) -> Config:
    """A checked configuration, with the method's own options completed by their defaults.

    Args:
        also: problems that were found before; they are told in the same message.

    Raises:
        InputError: listing every problem of every section, those of `search.options` included.
    """
    problems = list(also)
    if not isinstance(data, Mapping):
        raise InputError(
            [*problems, Problem("configuration", str(data), "must be a group of keys")]
        )
    config, refused = _validate(Config, data, problems)
    options, refused_options = _options(data, problems)
    if config is not None:
        search = config.search.model_copy(update={"options": options})
        config = config.model_copy(update={"search": search, "data": _settled(config)})
        refused |= {("search", "options", *path) for path in refused_options}
        problems += _contradictions(config, refused)
    if problems or config is None:
        raise InputError(problems)
    return config


def dumps(config: Config) -> str:
    """The configuration as JSON; `loads` reads it."""
    return config.model_dump_json()


def shown(config: Config) -> dict[str, Any]:
    """The configuration as everybody may see it who can read a run: addresses of the store and of
    the study's database without their passwords."""
    data = config.model_dump(mode="json")
    data["tracking"]["uri"] = redact(config.tracking.uri)
    data["search"]["storage"] = redact(config.search.storage or "") or None
    return data


def loads(text: str) -> Config:
    """Reads what `dumps` wrote, or another JSON object of that form.

    Raises:
        InputError: as `parse`.
    """
    return parse(json.loads(text))


def _validate(
    section: type[_SectionT], data: object, problems: list[Problem], *prefix: str
) -> tuple[_SectionT | None, set[_Path]]:
    """The section made of what is right, and the paths of the values that are not.

    pydantic does not compare the values of a section when one of them is wrong. So what is refused
    is left out and the rest is checked again, until nothing more comes to light.
    """
    rest = copy.deepcopy(data)
    found: list[Problem] = []
    refused: set[_Path] = set()
    result: _SectionT | None = None
    while True:
        try:
            result = section.model_validate(rest)
            break
        except ValidationError as error:
            items = _above_bad_keys(
                [(locate(section, item["loc"])[0], item) for item in error.errors()]
            )
        paths = refused | {path for path, _ in items}
        found += [
            problem_of(section, item, prefix)
            for path, item in items
            if not _follows(item, path, refused) and not _is_left_short(item, path, paths)
        ]
        refused |= {path for path, item in items if item["type"] != "extra_forbidden"}
        if not any([_take_out(rest, path) for path, _ in items]):
            break
    told = {problem.key for problem in found}
    found += [
        problem for problem in reject_booleans(section, data, prefix) if problem.key not in told
    ]
    problems += found
    return result, refused


def _above_bad_keys(items: list[tuple[_Path, Any]]) -> list[tuple[_Path, Any]]:
    """Leave out what is said of values below a key that is wrong itself."""
    bad = {path for path, item in items if item["loc"][-1:] == (OF_KEY,)}
    return [
        (path, item)
        for path, item in items
        if item["loc"][-1:] == (OF_KEY,) or not any(path[: len(key)] == key for key in bad)
    ]


def _follows(error: Any, path: _Path, refused: set[_Path]) -> bool:
    """A comparison that fails for want of a value that was refused says nothing new."""
    missed = [other[-1] for other in refused if other[:-1] == path]
    return error["type"] == "value_error" and any(name in error["msg"] for name in missed)


def _is_left_short(error: Any, path: _Path, refused: set[_Path]) -> bool:
    """A list that is too short without its refused elements says nothing new either."""
    return error["type"] == "too_short" and any(other[:-1] == path for other in refused)


def _take_out(data: Any, path: _Path) -> bool:
    """Removes what is at fault; a list goes whole, since the places of its rest would change."""
    for depth, part in enumerate(path, start=1):
        keys = [key for key in data if str(key) == part]  # a key may be a number
        if not keys:
            return False
        below = data[keys[0]]
        if depth == len(path) or not isinstance(below, dict):
            for key in keys:
                del data[key]
            return True
        data = below
    return False


def _options(data: Mapping[str, Any], problems: list[Problem]) -> tuple[dict[str, Any], set[_Path]]:
    """The method's options, all of them, and the paths below them of what was refused; what is no
    name or no group is told by `Config`."""
    method = data.get("method", DEFAULT_METHOD)
    if not isinstance(method, str):
        return {}, set()
    if method not in METHODS:
        problems.append(
            Problem("method", repr(method), "unknown method" + suggest(method, METHODS))
        )
        return {}, set()
    search = data.get("search")
    given = search.get("options", {}) if isinstance(search, Mapping) else {}
    if not isinstance(given, Mapping):
        return {}, set()
    options, refused = _validate(METHODS[method].options, given, problems, "search", "options")
    return {} if options is None else options.model_dump(mode="json"), refused


def _settled(config: Config) -> DataConfig:
    """Splits of the kind that the method needs, where nobody has said of which."""
    method = METHODS.get(config.method)
    if method is None or config.data.split_by is not None:
        return config.data
    return config.data.model_copy(update={"split_by": "class" if method.few_shot else "image"})


def _contradictions(config: Config, refused: set[_Path]) -> list[Problem]:
    """What no single section can see; what rests on a refused value is left for the next try."""
    problems = []
    method = METHODS.get(config.method)  # None is told elsewhere
    if method is not None and method.is_serial and config.search.workers > 1:
        problems.append(
            Problem(
                "search.workers",
                str(config.search.workers),
                f"each proposal of {config.method} needs the result of the one before; set it to 1",
            )
        )
    if method is not None:
        problems += _unfit_for_method(config, method)
        is_settled = not any(path[:2] in _ABOUT_THE_SPACE for path in refused)
        if is_settled and method.space in (None, config.search.space.name):
            options = method.options.model_validate(config.search.options)
            problems += options.unfit_for(config.search.space)
    # `settle_stores` moves these two into the environment, and `check_cluster` refuses them.
    addresses = ("tracking.uri", "search.storage")
    problems += open_secrets(config.model_dump(mode="json"), dealt_with=addresses)
    root = config.promote.export_to or ""
    if uri_error(root) and not any(problem.key == "promote.export_to" for problem in problems):
        problems.append(Problem("promote.export_to", root, uri_error(root)))
    size, source = config.data.image_size, config.data.source
    if size is not None:
        problems += unfit_for_size(config, size, f"data.image_size={size}")
    is_given = not refused & {("data",), ("data", "source")}
    if config.training.flip and is_given and source in _NOT_TO_MIRROR:
        message = f"mirrored {source} are wrong; set it to false"
        problems.append(Problem("training.flip", "true", message))
    return problems + _unfit_rates(config, refused)


def _unfit_rates(config: Config, refused: set[_Path]) -> list[Problem]:
    """Return learning rates that would rise along the cosine."""
    last = config.training.min_lr
    rates = {"train.lr": config.train.lr, "search.child.lr": config.search.child.lr}
    keys = [
        key
        for key, rate in rates.items()
        if last > rate and not refused & {tuple(key.split(".")), ("training", "min_lr")}
    ]
    if not keys:
        return []
    found = " and ".join(f"{key}={rates[key]:g}" for key in keys)
    message = f"must be <= {' and '.join(keys)}, got {found}; lower min_lr or raise lr"
    return [Problem("training.min_lr", f"{last:g}", message)]


def open_secrets(data: Mapping[str, Any], *, dealt_with: Sequence[str] = ()) -> list[Problem]:
    """Passwords in settings, which files, logs and tracking would show.

    Args:
        data: a configuration, or a layer of one.
        dealt_with: keys that may hold one.
    """
    message = (
        "holds a user name, a password or a token, which files and logs would show; leave it out, "
        "and give it to the steps as an environment variable, from a Secret"
    )
    return [
        Problem(key, redact_setting(value), message)
        for key, value in _texts(data)
        if key not in dealt_with and redact_setting(value) != value
    ]


def _texts(data: Any, path: _Path = ()) -> Iterator[tuple[str, str]]:
    """All texts of a configuration, with their keys; a key may be one that a person has made up."""
    if isinstance(data, str):
        yield ".".join(path), data
    elif isinstance(data, Mapping):
        for name, value in data.items():
            yield from _texts(value, (*path, str(name)))
            if redact_setting(str(name)) != str(name):
                yield ".".join(path), str(name)
    elif isinstance(data, list):
        for value in data:
            yield from _texts(value, path)


def unfit_for_size(config: Config, size: int, told: str) -> list[Problem]:
    """Augmentations that leave nothing of images of this height and width.

    Args:
        told: what a message calls the size.
    """
    problems = []
    if (padding := config.training.crop_padding) >= size:
        message = f"must be smaller than {told}; 4 suits 32 pixels"
        problems.append(Problem("training.crop_padding", str(padding), message))
    cutouts = {"training": config.training.cutout}
    for name, group in config.search.options.items():
        if isinstance(group, Mapping) and "cutout" in group:
            cutouts[f"search.options.{name}"] = group["cutout"]
    message = f"must be smaller than {told}, or nothing of an image is left"
    return problems + [
        Problem(f"{key}.cutout", str(cutout), message)
        for key, cutout in cutouts.items()
        if cutout >= size
    ]


def _unfit_for_classes(config: Config, method: Method) -> list[Problem]:
    """Settings that a method cannot follow, about figures of classes and the balance of them."""
    problems = []
    objective, balance, drop = config.search.objective, config.training, config.promote
    if method.only_accuracy and objective != "accuracy":
        message = f"{config.method} {method.only_accuracy}; set it to accuracy"
        problems.append(Problem("search.objective", objective, message))
    if not method.few_shot:
        return problems
    fixed = f"has no effect on {config.method}, whose networks know no fixed classes; "
    for name, field in BalanceConfig.model_fields.items():
        default = field.default
        if getattr(balance, name) != default:
            message = f"{fixed}set it to {default}"
            problems.append(Problem(f"training.{name}", getattr(balance, name), message))
    if drop.max_class_drop is not None:
        message = f"{fixed}set it to null"
        problems.append(Problem("promote.max_class_drop", f"{drop.max_class_drop:g}", message))
    return problems


def _unfit_for_method(config: Config, method: Method) -> list[Problem]:
    problems = []
    split_by = config.data.split_by
    if split_by != ("class" if method.few_shot else "image"):
        learns = (
            "learns new classes from a few examples, and is judged by classes it has not seen; "
            "set it to class"
            if method.few_shot
            else "knows only the classes that it was trained on; set it to image"
        )
        problems.append(Problem("data.split_by", str(split_by), f"{config.method} {learns}"))
    problems += _unfit_for_classes(config, method)
    budget, space = config.search.budget, config.search.space
    if budget.unit not in method.budget_units:
        problems.append(
            Problem(
                f"search.budget.{budget.unit}",
                f"{budget.amount:g}",
                f"{config.method} trains one network for all architectures and counts no children; "
                f"give one of {', '.join(method.budget_units)}",
            )
        )
    if method.space is not None and space.name != method.space:
        message = f"{config.method} searches one space only; set it to {method.space}"
        problems.append(Problem("search.space.name", space.name, message))
    if method.needs_shared_weights and not space.shares_weights:
        sharing = [one.model_fields["name"].default for one in SPACE_SECTIONS if one.shares_weights]
        problems.append(
            Problem(
                "search.space.name",
                space.name,
                f"{config.method} needs a space with shared weights: {' or '.join(sharing)}",
            )
        )
    return problems
