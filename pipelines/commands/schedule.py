"""`nas schedule`: runs on Kubeflow that start at fixed times (KFP calls them recurring runs)."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nascore.errors import InputError, Problem, collect_problems
from pipelines.commands.cluster_options import Find, as_json, on_cluster
from pipelines.commands.compile import image_option, kind_option
from pipelines.commands.options import configuration, given
from pipelines.commands.shortcuts import shortcuts
from pipelines.commands.submit import (
    account_option,
    inline_option,
    no_check_option,
    pipeline_option,
    prepare,
)
from pipelines.definitions.kinds import Kind
from pipelines.kubeflow import schedule_times
from pipelines.kubeflow.schedule_view import (
    describe,
    find_one,
    last_runs,
    lines_of,
    runs_of,
    say_times,
)
from pipelines.settings import problems_of

if TYPE_CHECKING:
    from components.config.schema import Config
    from pipelines.kubeflow.client import Cluster

_UNATTENDED = "registry.unusable_champion=replace"
_REPLACES = (
    "The schedule has registry.unusable_champion=replace: a champion that is deleted, damaged or "
    "of other classes does not stop its runs; the new model replaces it if it passes the other "
    "gates. To stop instead, add --set registry.unusable_champion=stop."
)


@click.group()
def schedule() -> None:
    """Start runs on Kubeflow at fixed times."""


@schedule.command()
@configuration
@shortcuts()
@click.option("--name", callback=given, required=True, help="Name of the schedule.")
@click.option(
    "--cron",
    "expression",
    required=True,
    metavar="'S M H DAY MONTH WEEKDAY'",
    help=f"When; six fields, seconds first: '{schedule_times.EXAMPLE}' is Mondays at three. "
    "In UTC, unless Kubeflow's administrator has set another time zone (CRON_SCHEDULE_TIMEZONE).",
)
@click.option(
    "--pin/--latest",
    "is_pinned",
    default=True,
    show_default=True,
    help="Run what is compiled now, or at each time the latest version of the pipeline.",
)
@pipeline_option
@inline_option
@click.option(
    "--paused", is_flag=True, help="Create the schedule, but start no run until it is resumed."
)
@kind_option
@image_option
@account_option
@no_check_option
@as_json
@on_cluster
def create(
    find: Find,
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    name: str,
    expression: str,
    is_pinned: bool,
    pipeline: str | None,
    is_inline: bool,
    paused: bool,
    kind: Kind,
    image: str | None,
    service_account: str | None,
    no_check: bool,
    as_json: bool,
) -> None:
    """Create a schedule: one run at a time, and nothing cached.

    A run starts up to 30 s late. If times pass while the schedule is paused or a run of it is
    running, only the latest of them is run, as soon as possible.

    With --latest the configuration is that of the version; options and --set become parameters.

    A champion that cannot be used is replaced, since no user watches the runs: without a value in
    the configuration, registry.unusable_champion is replace.
    """
    from components.config.parameters import SETTINGS
    from pipelines.kubeflow.before_submit import refuse_impossible_run
    from pipelines.kubeflow.client import Cluster
    from pipelines.kubeflow.latest_version import latest_version
    from pipelines.kubeflow.run_parameters import RunSettings, divide
    from pipelines.kubeflow.run_request import Source, plugins, what_runs
    from pipelines.kubeflow.starting import make_schedule

    problems: list[Problem] = []
    connection = resolved = source = None
    with collect_problems(problems):
        expression = schedule_times.check(expression)
    with collect_problems(problems):
        connection = find()
    with collect_problems(problems):
        source = Source(kind, image, pipeline, is_inline)
    if is_pinned:
        resolved = prepare(config, preset, settings, image, problems)
    else:
        problems += _latest_problems(config, preset, image, is_inline, settings)
    if problems or connection is None or source is None:
        raise InputError(problems)
    say_times(expression, as_json=as_json)
    cluster, say = Cluster(connection), partial(click.echo, err=True)
    latest, replaces = None, resolved is not None and _is_unset(resolved)
    if resolved is None:
        latest = latest_version(cluster, source, settings)
        replaces = _is_unset(latest.config)
        if replaces:
            settings = (*settings, _UNATTENDED)
            latest = latest_version(cluster, source, settings)
        resolved, image = latest.config, latest.image
    if not no_check:
        refuse_impossible_run(
            resolved, image, connection=connection, service_account=service_account, kind=kind
        )
    _check_free(cluster, name)
    body: dict[str, Any] = {
        "display_name": name,
        "experiment_id": cluster.experiment(resolved.tracking.experiment, say),
        "trigger": {"cron_schedule": {"cron": expression}},
        "mode": "DISABLE" if paused else "ENABLE",
        "max_concurrency": "1",
        "no_catchup": True,
        **plugins(resolved),
    }
    if latest is not None:
        body |= latest.request()
    else:
        divided = divide(kind, resolved, file=config, preset=preset, settings=settings)
        if replaces:  # as a parameter: the version is that of a run with the same settings
            parameters = {**divided.parameters, SETTINGS: _UNATTENDED}
            divided = RunSettings(divided.compiled, parameters)
        body |= what_runs(cluster, source, divided, say)
    if service_account is not None:
        body["service_account"] = service_account
    if replaces:
        say(_REPLACES)
    made = make_schedule(cluster, body, say)
    if as_json:
        click.echo(json.dumps(describe({**body, **made}, {})))
    else:
        click.echo(f"Schedule {name} ({made['recurring_run_id']}) has been made.")


@schedule.command("list")
@click.option("--runs", "with_runs", is_flag=True, help="Also the newest runs of each, by name.")
@as_json
@on_cluster
def list_command(find: Find, with_runs: bool, as_json: bool) -> None:
    """List the schedules: times, next time, whether paused, and how the last run ended."""
    from pipelines.kubeflow.client import Cluster

    cluster = Cluster(find())
    found = cluster.schedules()
    last = last_runs(cluster, found)
    described = [describe(each, last) for each in found]
    if with_runs:
        described = [
            {**shown, "runs": runs_of(cluster, each)}
            for shown, each in zip(described, found, strict=True)
        ]
    if as_json:
        click.echo(json.dumps(described))
    elif described:
        click.echo("\n".join(lines_of(described)))
    else:
        click.echo("There are no schedules; create one with nas schedule create.")


def _changing(
    name: str,
    done: str,
    change: Callable[["Cluster", str], None],
    help_text: str,
    then: str = "",
) -> None:
    @schedule.command(name, help=help_text)
    @click.argument("which", metavar="NAME_OR_ID", callback=given)
    @as_json
    @on_cluster
    def command(find: Find, which: str, as_json: bool) -> None:
        from pipelines.kubeflow.client import Cluster

        cluster = Cluster(find())
        schedule_id = str(find_one(cluster, which)["recurring_run_id"])
        change(cluster, schedule_id)
        if as_json:
            click.echo(json.dumps({"schedule_id": schedule_id, "done": done}))
        else:
            click.echo(f"Schedule {which} has been {done}.{then}")


_changing(
    "pause",
    "paused",
    lambda cluster, which: cluster.pause(which),
    "Start no more runs until it is resumed; a running one continues.",
)
_changing(
    "resume",
    "resumed",
    lambda cluster, which: cluster.resume(which),
    "Start runs again; of all missed times only the latest is run, immediately.",
    then=" If times were missed, the latest of them is run within 30 s.",
)


def _latest_problems(
    config: Path | None,
    preset: str | None,
    image: str | None,
    is_inline: bool,
    settings: tuple[str, ...],
) -> list[Problem]:
    from components.config.merge import layer_of
    from components.config.secret_values import open_secrets

    layer, problems = layer_of(settings)
    problems += [*problems_of(settings), *open_secrets(layer)]
    given = {"CONFIG": config, "--preset": preset, "--image": image}
    for option, value in given.items():
        if value is not None:
            message = "is part of the version; use --set for single settings, or --pin"
            problems.append(Problem(option, str(value), message))
    if is_inline:
        message = "contradicts --latest, which runs what was uploaded; give one of them"
        problems.append(Problem("--inline", "", message))
    return problems


def _is_unset(config: "Config") -> bool:
    return config.registry.unusable_champion is None


def _check_free(cluster: "Cluster", name: str) -> None:
    """Refuse a name that is taken: KFP accepts it, and pause and delete become ambiguous."""
    for other in cluster.schedules():
        if other.get("display_name") == name:
            taken_by = other["recurring_run_id"]
            message = f"is taken by {taken_by}; delete that one, or choose another name"
            raise InputError.of("--name", name, message)
