"""Options for the settings that are changed most: `--budget 30m` sets `search.budget`."""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

import click

from components.config.contradictions import SET, Given, contradictions, effective
from components.config.parameters import PARAMETERS, Parameter
from pipelines.commands.completion import complete_value
from pipelines.commands.options import given
from pipelines.settings import Settings


def settings_of(texts: Sequence[str], shortcuts: Iterable[tuple[Parameter, str]]) -> Settings:
    """Put shortcuts, with their values as typed, and the texts of `--set` together."""
    given = [Given(one.option, text, one.setting(text)) for one, text in shortcuts]
    given += [Given(SET, text, text) for text in texts]
    settings = Settings(effective(given))
    settings.problems = contradictions(given)
    return settings


def _argument(shortcut: Parameter) -> str:
    """Return the name of the option's value among the arguments of a command."""
    return f"shortcut_{shortcut.name}"


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
    chosen = [one for one in PARAMETERS if not names or one.option in names]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def wrapped(*args: Any, **kwargs: Any) -> None:
            texts = [(one, text) for one in chosen for text in kwargs.pop(_argument(one))]
            command(*args, **{**kwargs, "settings": settings_of(kwargs["settings"], texts)})

        decorated: Callable[..., None] = wrapped
        for one in reversed(chosen):
            decorated = click.option(
                one.option,
                _argument(one),
                metavar=one.metavar,
                multiple=True,
                callback=_all_given,
                help=f"{one.help} Sets {one.key}.",
                shell_complete=complete_value(one.key),
            )(decorated)
        return decorated

    return decorate
