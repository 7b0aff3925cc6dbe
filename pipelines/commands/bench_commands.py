"""`nas bench` with its commands: without the name of one it replays a table."""

from typing import Any

import click

from pipelines.commands.bench import bench as replay
from pipelines.commands.bench_suggest import suggest
from pipelines.commands.bench_train import train
from pipelines.commands.options import one_message

_COMMANDS = {"suggest": suggest, "train": train}


class _Bench(click.Command):
    """`nas bench`, whose options are required unless the name of a command follows."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> click.Context:
        command = _COMMANDS.get(args[0]) if args else None
        if command is not None:
            return command.make_context(f"{info_name} {args[0]}", args[1:], parent=parent)
        return super().make_context(info_name, args, parent, **extra)


bench = click.command("bench", cls=_Bench)(one_message(replay))
