"""Options for the settings that are changed most: `--budget 30m` sets `search.budget`."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click
import yaml

from pipelines.commands.completion import complete_value
from pipelines.commands.options import given
from pipelines.settings import SET, Given, Settings, contradictions


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


def settings_of(texts: Sequence[str], shortcuts: Iterable[tuple[Shortcut, str]]) -> Settings:
    """Put shortcuts, with their values as typed, and the texts of `--set` together."""
    given = [Given(one.option, text, _setting(one, text)) for one, text in shortcuts]
    given += [Given(SET, text, text) for text in texts]
    options = [one for one in given if one.option != SET]
    # A part of what an option sets as a whole is one problem: their contradiction.
    settings = Settings(
        one.setting for one in given if not any(one.is_below(option) for option in options)
    )
    settings.problems = contradictions(given)
    return settings


def _setting(shortcut: Shortcut, text: str) -> str:
    """Return a shortcut as `key.path=value`, quoted where YAML would not read the text as text."""
    try:
        is_read_as_text = yaml.safe_load(text) == text
    except yaml.YAMLError:
        is_read_as_text = False
    quoted = text if is_read_as_text or not shortcut.is_text else json.dumps(text)
    return f"{shortcut.key}={quoted}"


def _all_given(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Return every value of an option, so that two different ones are refused."""
    for value in values:
        given(context, parameter, value)
    return values


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
            texts = [(one, text) for one in chosen for text in kwargs.pop(one.parameter)]
            command(*args, **{**kwargs, "settings": settings_of(kwargs["settings"], texts)})

        decorated: Callable[..., None] = wrapped
        for one in reversed(chosen):
            decorated = click.option(
                one.option,
                one.parameter,
                metavar=one.metavar,
                multiple=True,
                callback=_all_given,
                help=f"{one.help} Sets {one.key}.",
                shell_complete=complete_value(one.key),
            )(decorated)
        return decorated

    return decorate
