"""Options for the settings that are changed most: `--budget 30m` sets `search.budget`."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click
import yaml

from nascore.errors import Problem
from pipelines.commands.completion import complete_value
from pipelines.commands.options import given
from pipelines.settings import Settings


@dataclass(frozen=True, slots=True)
class Shortcut:
    """An option of its own for one setting.

    Attributes:
        option: as it is written, such as `--data`.
        key: the setting.
        metavar: what help calls the value.
        is_text: whether the value is text even where YAML would read a number.
    """

    option: str
    key: str
    metavar: str
    help: str
    is_text: bool = True

    @property
    def parameter(self) -> str:
        """Name of the option's value among the arguments of a command."""
        return "shortcut_" + self.option.strip("-").replace("-", "_")


SHORTCUTS = (
    Shortcut("--method", "method", "NAME", "Search method [nases]."),
    Shortcut("--data", "data.source", "SOURCE", "Images: imagefolder:DIR, npz:FILE, s3://..."),
    Shortcut(
        "--budget", "search.budget", "AMOUNT", "30m, 2h, 64 children, 5000 steps, 2 gpu-hours."
    ),
    Shortcut("--workers", "search.workers", "N", "Processes that search together.", is_text=False),
    Shortcut("--seed", "seed", "N", "Seed of everything random.", is_text=False),
    Shortcut("--objective", "search.objective", "NAME", "Metric to maximise."),
    Shortcut("--image-size", "data.image_size", "PIXELS", "Height and width.", is_text=False),
    Shortcut("--model", "promote.model_name", "NAME", "Name in the MLflow registry."),
    Shortcut("--experiment", "tracking.experiment", "NAME", "In MLflow and on Kubeflow."),
)


def settings_of(texts: Sequence[str], shortcuts: Mapping[Shortcut, str]) -> Settings:
    """Put shortcuts and the texts of `--set` together."""
    settings = Settings([*(_setting(one, text) for one, text in shortcuts.items()), *texts])
    settings.problems = tuple(
        Problem(one.option, text, f"contradicts --set {other}; give one of them")
        for one, text in shortcuts.items()
        for other in texts
        if _contradicts(_setting(one, text), other)
    )
    return settings


def _setting(shortcut: Shortcut, text: str) -> str:
    """Return a shortcut as `key.path=value`, quoted where YAML would not read the text as text."""
    try:
        is_read_as_text = yaml.safe_load(text) == text
    except yaml.YAMLError:
        is_read_as_text = False
    quoted = text if is_read_as_text or not shortcut.is_text else json.dumps(text)
    return f"{shortcut.key}={quoted}"


def _contradicts(one: str, other: str) -> bool:
    """Return whether two settings give one key, or a group and a key of it, different values."""
    (key, _, value), (other_key, _, other_value) = one.partition("="), other.partition("=")
    other_key = other_key.strip()
    if key == other_key:
        return value.strip("\"' ") != other_value.strip("\"' ")
    return key.startswith(f"{other_key}.") or other_key.startswith(f"{key}.")


def shortcuts(
    *names: str,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the shortcuts; their values are put into its argument `settings`.

    Args:
        names: the options that the command takes; all when none is named.
    """
    chosen = [one for one in SHORTCUTS if not names or one.option in names]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def wrapped(*args: Any, **kwargs: Any) -> None:
            values = {one: kwargs.pop(one.parameter) for one in chosen}
            texts = {one: text for one, text in values.items() if text is not None}
            command(*args, **{**kwargs, "settings": settings_of(kwargs["settings"], texts)})

        decorated: Callable[..., None] = wrapped
        for one in reversed(chosen):
            decorated = click.option(
                one.option,
                one.parameter,
                metavar=one.metavar,
                callback=given,
                help=f"{one.help} Sets {one.key}.",
                shell_complete=complete_value(one.key),
            )(decorated)
        return decorated

    return decorate
