"""Errors of click about a command line, as problems in the form of all other messages."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import IO, Any

import click

from nascore.errors import Problem
from pipelines.commands.options import wrong_input
from pipelines.exit_status import WRONG_INPUT

_NOT = re.compile(
    r"(?:[A-Z][a-z]+ )?('(?:[^'\\]|\\.)*'|\"[^\"]*\"|-?[\d.]+) (is not|does not|is a) "
)
"""The value at the beginning of click's messages, such as `'x' is not a valid integer.`"""


class WrongUsage(click.ClickException):
    """A command line that click refuses."""

    exit_code = WRONG_INPUT

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, file=file, err=file is None)


@contextlib.contextmanager
def usage_as_problem() -> Iterator[None]:
    """Raise errors of click in the block again as a message about one problem."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise  # this is no error: it prints the help
    except click.UsageError as error:
        context = error.ctx or _context()
        with context.scope(cleanup=False):
            raise WrongUsage(wrong_input([problem_of(error, context)])) from error


def problem_of(error: click.UsageError, context: click.Context) -> Problem:
    """Return what is wrong with a command line, which value, and what to do.

    Args:
        error: of click.
        context: of the command.
    """
    path = context.command_path
    see = f"see `{path} --help`"
    if isinstance(error, click.NoSuchCommand):
        group = context.command  # click knows only the commands that are imported already
        names = group.list_commands(context) if isinstance(group, click.Group) else []
        message = f"unknown command; {_meant(get_close_matches(error.command_name, names)) or see}"
        return Problem("COMMAND", error.command_name, message)
    if isinstance(error, click.NoSuchOption):
        message = f"{path} has no such option; {_meant(error.possibilities) or see}"
        return Problem(error.option_name, "", message)
    if isinstance(error, click.BadOptionUsage):
        return Problem(error.option_name, "", f"{_count(error, context)}; {see}")
    if isinstance(error, click.MissingParameter):
        return Problem(_name(error), "", f"is missing; write {_synopsis(context, error)}")
    if isinstance(error, click.BadParameter):
        value, reason = _split(error.message)
        return Problem(_name(error), value, f"{_number(error.param) or reason}; {see}")
    extra = re.search(r"unexpected extra arguments? \((.*)\)", error.message)
    if extra is not None:
        message = f"is more than {path} takes; write a value with spaces in quotes; {see}"
        return Problem("command line", extra.group(1), message)
    return Problem("command line", "", f"{_lower(error.format_message())}; {see}")


def _context() -> click.Context:
    """Return the context of the command that was being parsed, which some errors lack."""
    context = click.get_current_context()
    name = context.invoked_subcommand
    if name is None or not isinstance(context.command, click.Group):
        return context
    command = context.command.get_command(context, name)
    return context if command is None else click.Context(command, context, name)


def _count(error: click.BadOptionUsage, context: click.Context) -> str:
    """Describe an option without its value, or a flag with one."""
    name = error.option_name
    options = [one for one in context.command.params if name in one.opts]
    if "not take a value" in error.message:
        return f"takes no value; write {name}"
    if not options:
        return "needs a value"
    return f"needs a value; write {name} {options[0].make_metavar(context)}"


def _number(parameter: click.Parameter | None) -> str:
    """Return which number an option takes; nothing where it takes something else."""
    kind = None if parameter is None else parameter.type
    if not isinstance(kind, type(click.INT) | type(click.FLOAT)):
        return ""
    word = "whole number" if isinstance(kind, type(click.INT)) else "number"
    least, most = getattr(kind, "min", None), getattr(kind, "max", None)
    bounds = f" from {least}" if least is not None else ""
    bounds += f" to {most}" if most is not None else ""
    return f"must be a {word}{bounds}"


def _name(error: click.BadParameter) -> str:
    """Return the longest name of an option, or the name of an argument."""
    if isinstance(error.param, click.Option):
        return max(error.param.opts, key=len)
    if error.param is not None:
        return error.param.make_metavar(error.ctx or click.get_current_context()).strip("[]")
    return str(error.param_hint or "command line")


def _synopsis(context: click.Context, error: click.MissingParameter) -> str:
    """Return the shortest command line that has the missing value."""
    if not isinstance(error.param, click.Option):
        return f"{context.command_path} {_name(error)}"
    return f"{context.command_path} {_name(error)} {error.param.make_metavar(context)}"


def _split(message: str) -> tuple[str, str]:
    """Return the value in a message of click, and the rest of the message."""
    found = _NOT.match(message)
    if found is None:
        return "", _lower(message)
    value, verb = found.groups()
    return value.strip("'\""), f"{verb} {message[found.end() :].rstrip('.')}"


def _lower(message: str) -> str:
    """Return a sentence of click as the end of one of ours."""
    return (message[:1].lower() + message[1:]).rstrip(".")


def _meant(possibilities: Sequence[str] | None) -> str:
    words = " or ".join(f"'{one}'" for one in possibilities or ())
    return f"did you mean {words}?" if words else ""
