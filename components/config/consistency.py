"""Problems of a configuration that no single section can see."""

from collections.abc import Iterator, Set
from typing import TYPE_CHECKING

from pydantic import BaseModel

from components.config.secret_values import open_secrets
from components.object_store.outputs import uri_error
from nascore.config import SPACE_SECTIONS, BalanceConfig
from nascore.errors import Problem
from nascore.methods.base import Method
from nascore.methods.registry import METHODS

if TYPE_CHECKING:
    from components.config.schema import Config

_Path = tuple[str, ...]
_NOT_TO_MIRROR = ("digits", "omniglot")
_ABOUT_THE_SPACE = (("search",), ("search", "space"), ("search", "options"))
# `settle_stores` moves these two into the environment, and `check_cluster` refuses them.
_ADDRESSES = ("tracking.uri", "search.storage")


def problems_between_sections(config: "Config", refused: Set[_Path]) -> list[Problem]:
    """Return contradictions between sections.

    Args:
        refused: paths of values that were wrong; what depends on them is not checked.
    """
    problems: list[Problem] = []
    method = METHODS.get(config.method)
    if method is not None:  # an unknown method is a problem of `parse`
        problems += _unfit_for_method(config, method)
        is_settled = not any(path[:2] in _ABOUT_THE_SPACE for path in refused)
        if is_settled and method.space in (None, config.search.space.name):
            problems += config.search.options.unfit_for(config.search.space)
    problems += open_secrets(config.model_dump(mode="json"), allowed=_ADDRESSES)
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


def unfit_for_size(config: "Config", size: int, name: str) -> list[Problem]:
    """Return augmentations that leave nothing of images of this height and width.

    Args:
        name: what a message calls the size.
    """
    problems = []
    if (padding := config.training.crop_padding) >= size:
        message = f"must be smaller than {name}; 4 suits 32 pixels"
        problems.append(Problem("training.crop_padding", str(padding), message))
    message = f"must be smaller than {name}, or nothing of an image is left"
    return problems + [
        Problem(key, str(cutout), message) for key, cutout in _cutouts(config) if cutout >= size
    ]


def _cutouts(config: "Config") -> Iterator[tuple[str, int]]:
    yield "training.cutout", config.training.cutout
    for name, group in config.search.options:
        if isinstance(group, BaseModel) and "cutout" in type(group).model_fields:
            yield f"search.options.{name}.cutout", getattr(group, "cutout")  # noqa: B009


def _unfit_rates(config: "Config", refused: Set[_Path]) -> list[Problem]:
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


def _unfit_for_classes(config: "Config", method: Method) -> list[Problem]:
    """Return settings about class metrics and class balance that the method does not follow."""
    problems = []
    objective, training, drop = config.search.objective, config.training, config.promote
    if method.only_accuracy and objective != "accuracy":
        message = f"{config.method} {method.only_accuracy}; set it to accuracy"
        problems.append(Problem("search.objective", objective, message))
    if not method.few_shot:
        return problems
    fixed = f"has no effect on {config.method}, whose networks know no fixed classes; "
    for name, field in BalanceConfig.model_fields.items():
        value = getattr(training, name)
        if value != field.default:
            message = f"{fixed}set it to {field.default}"
            problems.append(Problem(f"training.{name}", value, message))
    if drop.max_class_drop is not None:
        message = f"{fixed}set it to null"
        problems.append(Problem("promote.max_class_drop", f"{drop.max_class_drop:g}", message))
    return problems


def _unfit_for_method(config: "Config", method: Method) -> list[Problem]:
    problems = []
    if method.is_serial and config.search.workers > 1:
        message = (
            f"each proposal of {config.method} needs the result of the one before; set it to 1"
        )
        problems.append(Problem("search.workers", str(config.search.workers), message))
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
        message = (
            f"{config.method} trains one network for all architectures and counts no children; "
            f"give one of {', '.join(method.budget_units)}"
        )
        problems.append(Problem(f"search.budget.{budget.unit}", f"{budget.amount:g}", message))
    if method.space is not None and space.name != method.space:
        message = f"{config.method} searches one space only; set it to {method.space}"
        problems.append(Problem("search.space.name", space.name, message))
    if method.needs_shared_weights and not space.shares_weights:
        sharing = [one.model_fields["name"].default for one in SPACE_SECTIONS if one.shares_weights]
        message = f"{config.method} needs a space with shared weights: {' or '.join(sharing)}"
        problems.append(Problem("search.space.name", space.name, message))
    return problems
