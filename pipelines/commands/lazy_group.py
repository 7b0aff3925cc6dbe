"""A group of commands that are imported when they are called, so that help is fast."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from pipelines.commands.options import one_message
from pipelines.commands.usage_errors import usage_as_problem
from pipelines.full_install import FULL, needing_full_install, refuse


@dataclass(frozen=True, slots=True)
class Later:
    """A command that is not imported yet.

    Attributes:
        place: `module:name` of a function or a command below `pipelines`.
        help: short help in the list of commands; its first words are those of the command.
        is_for_client: whether the client install is enough for it.
    """

    place: str
    help: str
    is_for_client: bool = False


class LazyGroup(click.Group):
    """A group that has names and short helps of its commands, and imports the one that it runs."""

    def __init__(self, *args: Any, later: Mapping[str, Later], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.later = later

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.later, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        later = self.later.get(cmd_name)
        if later is None or cmd_name in self.commands:
            return super().get_command(ctx, cmd_name)
        module, _, name = later.place.partition(":")
        found = getattr(importlib.import_module(f"pipelines.{module}"), name)
        if not isinstance(found, click.Command):
            found = click.command(cmd_name)(one_message(found))
        if not later.is_for_client and found.callback is not None:
            found.callback = needing_full_install(found.callback)
        self.add_command(found, cmd_name)
        return found

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        with usage_as_problem():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; report wrong usage, or a package that the client install lacks."""
        try:
            with usage_as_problem():
                return super().invoke(ctx)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in FULL:
                raise
            refuse([package])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands as click does, without importing them."""
        width = formatter.width - 6 - max(map(len, self.later))
        rows = [(name, self._stub(name).get_short_help_str(width)) for name in self.later]
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        found = [CompletionItem(name, help=self.later[name].help) for name in names]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def _stub(self, name: str) -> click.Command:
        return click.Command(name, help=self.later[name].help)
