"""`nas submit` and `nas status`: runs on Kubeflow."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nascore.errors import InputError, Problem, collect_problems
from pipelines.commands.cluster_options import Find, as_json, on_cluster, poll_option
from pipelines.commands.compile import image_option, kind_option, resolve_for_cluster
from pipelines.commands.options import configuration, given
from pipelines.commands.shortcuts import shortcuts
from pipelines.definitions.kinds import Kind

if TYPE_CHECKING:
    from components.config.schema import Config
    from pipelines.kubeflow.client import Cluster, JsonObject

_NO_IMAGE = (
    "--image is not given, so pods use {}, which must have been pushed to a registry; name your "
    "image: --image REGISTRY/nas-python@sha256:..."
)

wait_option = click.option("--wait", "is_waiting", is_flag=True, help="Follow the run to its end.")
retries_option = click.option(
    "--retries",
    type=click.IntRange(min=0, max=100),
    default=0,
    show_default=True,
    metavar="N",
    help="With --wait: number of retries of a run that an outage or a lost pod has ended.",
)
account_option = click.option(
    "--service-account",
    callback=given,
    metavar="NAME",
    help="Kubernetes account of the pods [KFP's].",
)
pipeline_option = click.option(
    "--pipeline",
    callback=given,
    metavar="NAME",
    help="Pipeline on Kubeflow's Pipelines page, which gets a new version if the compiled text is "
    "new [nas-search or nas-retrain].",
)
inline_option = click.option(
    "--inline", "is_inline", is_flag=True, help="Upload no pipeline; send it with the run."
)
no_check_option = click.option(
    "--no-check",
    is_flag=True,
    help="Do not check whether the run can work on the cluster, nor that its data are there.",
)


def prepare(
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    image: str | None,
    problems: list[Problem],
) -> "Config | None":
    """Return the configuration of a run on the cluster; as `resolve_for_cluster`."""
    from components.image import IMAGE
    from pipelines.kubeflow.data_checks import source_problems

    resolved = resolve_for_cluster(config, preset, settings, image, problems)
    if resolved is not None:
        problems += source_problems(resolved)
        if image is None:
            click.echo(f"warning: {_NO_IMAGE.format(IMAGE)}", err=True)
    return resolved


@configuration
@shortcuts()
@kind_option
@image_option
@click.option(
    "--run-name",
    callback=given,
    metavar="NAME",
    help="Name of the run [method, data set and budget].",
)
@pipeline_option
@inline_option
@account_option
@no_check_option
@wait_option
@retries_option
@poll_option
@as_json
@on_cluster
def submit(
    find: Find,
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    kind: Kind,
    image: str | None,
    run_name: str | None,
    pipeline: str | None,
    is_inline: bool,
    service_account: str | None,
    no_check: bool,
    is_waiting: bool,
    retries: int,
    poll_s: float,
    as_json: bool,
) -> None:
    """Compile the pipeline, upload it if it is new, and run it on Kubeflow.

    Method, data, budget, seed, objective, image size, model, experiment and smallest gain are
    parameters of the run; all other settings are compiled in. With --wait the exit status is 0 if
    the run or a retry of it succeeds, and 1 if it fails. Runs that ended by wrong input, too little
    memory, a crash or a cancel are not retried. Nothing is cached. A run that cannot work on the
    cluster is refused (nas doctor --cluster).
    """
    from pipelines.kubeflow.before_submit import refuse_impossible_run
    from pipelines.kubeflow.client import Cluster
    from pipelines.kubeflow.run_names import name_of_run
    from pipelines.kubeflow.run_parameters import divide
    from pipelines.kubeflow.run_request import Source, plugins, what_runs
    from pipelines.kubeflow.starting import start_run

    problems: list[Problem] = retries_problems(retries, is_waiting=is_waiting)
    connection = source = None
    with collect_problems(problems):
        connection = find()
    with collect_problems(problems):
        source = Source(kind, image, pipeline, is_inline)
    resolved = prepare(config, preset, settings, image, problems)
    if problems or resolved is None or connection is None or source is None:
        raise InputError(problems)
    if not no_check:
        refuse_impossible_run(
            resolved, image, connection=connection, service_account=service_account, kind=kind
        )
    cluster, say = Cluster(connection), partial(click.echo, err=True)
    divided = divide(kind, resolved, file=config, preset=preset, settings=settings)
    body: dict[str, Any] = {
        "display_name": run_name or name_of_run(kind, resolved),
        "experiment_id": cluster.experiment(resolved.tracking.experiment, say),
        **what_runs(cluster, source, divided, say),
        **plugins(resolved),
    }
    if service_account is not None:
        body["service_account"] = service_account
    run = start_run(cluster, body, say)
    started(
        cluster,
        run,
        poll_s=poll_s if is_waiting else None,
        retries=retries,
        as_json=as_json,
        also=body.get("pipeline_version_reference", {}),
    )


def retries_problems(retries: int, *, is_waiting: bool) -> list[Problem]:
    """Return a problem if there are retries without waiting for the end."""
    if not retries or is_waiting:
        return []
    message = "needs --wait; without it, call nas retry when the run has failed"
    return [Problem("--retries", str(retries), message)]


def started(
    cluster: "Cluster",
    run: "JsonObject",
    *,
    poll_s: float | None,
    retries: int,
    as_json: bool,
    also: Mapping[str, Any] | None = None,
    before: tuple[str, ...] = (),
) -> None:
    """Report that a run has been started, and follow it if there is a `poll_s`.

    Args:
        cluster: client of the server.
        run: as the server describes it.
        poll_s: seconds between two requests; None does not wait.
        retries: number of retries of the run.
        as_json: print JSON only.
        also: further fields of the JSON.
        before: ids of the runs that this one continues.
    """
    from pipelines.kubeflow.status.following import Following, say_started

    follow = Following(
        cluster,
        poll_s=poll_s or 0,
        as_json=as_json,
        retries=retries,
        also=also or {},
        started=(*before, run["run_id"]),
    )
    say_started(cluster, run, follow.say)
    if poll_s is not None:
        follow.to_end(run)
    elif as_json:
        follow.show(run)


@click.argument("run_id", metavar="RUN", callback=given)
@wait_option
@poll_option
@as_json
@on_cluster
def status(find: Find, run_id: str, is_waiting: bool, poll_s: float, as_json: bool) -> None:
    """Print the state of a run on Kubeflow, or how it ended and why; RUN is its id.

    MLflow runs that a failed run has left open are closed. With --wait the exit status is 0 if the
    run succeeds and 1 if it fails.
    """
    from pipelines.kubeflow.client import Cluster
    from pipelines.kubeflow.status.following import Following

    cluster = Cluster(find())
    run = cluster.run(run_id)
    follow = Following(cluster, poll_s=poll_s, as_json=as_json)
    if is_waiting:
        follow.to_end(run)
    else:
        follow.show(run)
