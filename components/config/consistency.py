"""Problems of a configuration that no single section can see."""

from collections.abc import Iterator, Set
from typing import TYPE_CHECKING

from pydantic import BaseModel

from components.config.secret_values import open_secrets
from components.object_store.outputs import uri_error
from nascore.config.recipes import MAX_LR_OF_ADAPTIVE
from nascore.errors import Problem
from nascore.methods.registry import METHODS
from nascore.methods.requirements import RunSettings
from nascore.reference.names import NAMES, unknown

if TYPE_CHECKING:
    from components.config.schema import Config

_Path = tuple[str, ...]
_NOT_TO_MIRROR = ("digits", "omniglot")
_ABOUT_THE_SPACE = (("search",), ("search", "space"), ("search", "options"))
ADDRESSES = ("tracking.uri", "search.storage")
"""Settings that may contain a password in `nas run`, which moves it into the environment; a
pipeline for a cluster and its parameters may not."""


def problems_between_sections(config: "Config", refused: Set[_Path]) -> list[Problem]:
    """Return contradictions between sections.

    Args:
        refused: paths of values that were wrong; what depends on them is not checked.
    """
    problems: list[Problem] = []
    method = METHODS.get(config.method)
    if method is not None:  # an unknown method is a problem of `parse`
        problems += method.problems(_run_settings(config))
        is_settled = not any(path[:2] in _ABOUT_THE_SPACE for path in refused)
        if is_settled and not any(problem.key == "search.space.name" for problem in problems):
            problems += config.search.options.unfit_for(config.search.space)
    problems += open_secrets(config.model_dump(mode="json"), allowed=ADDRESSES)
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
    unfit = _unfit_rates(config, refused) + _unfit_freezing(config, refused)
    return problems + unfit + _switches_without_effect(config) + _wrong_references(config)


def _wrong_references(config: "Config") -> list[Problem]:
    """Return a problem if networks of `reference` are unknown or named twice."""
    names = config.reference or ()
    if strange := [name for name in names if name not in NAMES]:
        message = f"{'; '.join(map(unknown, strange))}; nascore/reference/names.py has all names"
        return [Problem("reference", ", ".join(strange), message)]
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if not repeated:
        return []
    message = f"names a network twice; write reference: [{', '.join(dict.fromkeys(names))}]"
    return [Problem("reference", ", ".join(repeated), message)]


def _switches_without_effect(config: "Config") -> list[Problem]:
    problems = []
    if config.training.device == "cpu" and config.training.switch("precision") == "fp16":
        message = "needs a GPU; set it to auto, bf16 or fp32"
        problems.append(Problem("training.precision", "fp16", message))
    if config.training.test_time_flip and not config.training.flip:
        message = "has no effect without training.flip; set that to true, or this to null"
        problems.append(Problem("training.test_time_flip", "true", message))
    return problems


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


def _unfit_freezing(config: "Config", refused: Set[_Path]) -> list[Problem]:
    """Return a problem if layers would stay frozen to the end of the final training."""
    frozen, epochs = config.training.freeze_epochs, config.train.epochs
    if frozen < epochs or frozen == 0 or refused & {("train",), ("train", "epochs")}:
        return []
    message = f"must be smaller than train.epochs={epochs}, or these layers are never trained"
    return [Problem("training.freeze_epochs", str(frozen), message)]


def _unfit_rates(config: "Config", refused: Set[_Path]) -> list[Problem]:
    """Return learning rates that would rise along the cosine, or are too high for the optimiser."""
    last = config.training.switch("min_lr")
    rates = {"train.lr": config.train.lr, "search.child.lr": config.search.child.lr}
    optimizer = config.training.switch("optimizer")
    known = {key: rate for key, rate in rates.items() if tuple(key.split(".")) not in refused}
    problems = [
        Problem(key, f"{rate:g}", f"must be <= {MAX_LR_OF_ADAPTIVE} for {optimizer}; try 0.002")
        for key, rate in known.items()
        if optimizer != "sgd" and rate > MAX_LR_OF_ADAPTIVE
    ]
    keys = [key for key, rate in known.items() if last > rate]
    if keys and ("training", "min_lr") not in refused:
        found = " and ".join(f"{key}={rates[key]:g}" for key in keys)
        message = f"must be <= {' and '.join(keys)}, got {found}; lower min_lr or raise lr"
        problems.append(Problem("training.min_lr", f"{last:g}", message))
    return problems


def _run_settings(config: "Config") -> RunSettings:
    return RunSettings(
        method=config.method,
        search=config.search,
        training=config.training,
        split_by=config.data.split_by or "image",
        max_class_drop=config.promote.max_class_drop,
        int8_max_drop=config.promote.int8_max_drop,
    )
