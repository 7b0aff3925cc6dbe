"""`nas submit` and `nas status`: runs on Kubeflow."""

import hashlib
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
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


def plugins(config: "Config") -> "JsonObject":
    """Return the part of a request that turns off Kubeflow's MLflow plugin."""
    return {} if config.tracking.kfp_plugin else {"plugins_input": {"mlflow": {"disabled": True}}}


def source(
    cluster: "Cluster", config: "Config", *, kind: Kind, image: str | None, pipeline: str | None
) -> "JsonObject":
    """Return the part of a request with the pipeline: the compiled file, or a version of it."""
    from components.image import IMAGE
    from pipelines.definitions.kinds import compile_pipeline
    from pipelines.kubeflow.runs import spec_of, without_caching

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        compile_pipeline(kind, config, file, image=image or IMAGE)
        without_caching(file)
        if pipeline is None:
            return {"pipeline_spec": spec_of(file)}
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
        version = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{digest}"
        return {"pipeline_version_reference": cluster.upload(pipeline, version, file)}


@configuration
@shortcuts()
@kind_option
@image_option
@click.option(
    "--run-name", callback=given, metavar="NAME", help="Name of the run [kind, method and time]."
)
@click.option(
    "--pipeline",
    callback=given,
    metavar="NAME",
    help="Also upload it as a new version of this pipeline.",
)
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
    service_account: str | None,
    no_check: bool,
    is_waiting: bool,
    retries: int,
    poll_s: float,
    as_json: bool,
) -> None:
    """Compile the pipeline and run it on Kubeflow.

    With --wait the exit status is 0 if the run or a retry of it succeeds, and 1 if it fails. Runs
    that ended by wrong input, too little memory, a crash or a cancel are not retried. Nothing is
    cached. A run that cannot work on the cluster is refused (nas doctor --cluster).
    """
    from components.config.schema import dumps

    problems: list[Problem] = retries_problems(retries, is_waiting=is_waiting)
    connection = None
    with collect_problems(problems):
        connection = find()
    resolved = prepare(config, preset, settings, image, problems)
    if problems or resolved is None or connection is None:
        raise InputError(problems)
    from pipelines.kubeflow.before_submit import refuse_impossible_run
    from pipelines.kubeflow.client import Cluster
    from pipelines.kubeflow.starting import start_run

    if not no_check:
        refuse_impossible_run(
            resolved, image, connection=connection, service_account=service_account, kind=kind
        )
    cluster = Cluster(connection)
    body: dict[str, Any] = {
        "display_name": run_name or f"{kind} {resolved.method} {datetime.now(UTC):%Y-%m-%d %H:%M}",
        "experiment_id": cluster.experiment(
            resolved.tracking.experiment, partial(click.echo, err=True)
        ),
        "runtime_config": {"parameters": {"config": dumps(resolved), "overrides": ""}},
        **source(cluster, resolved, kind=kind, image=image, pipeline=pipeline),
        **plugins(resolved),
    }
    if service_account is not None:
        body["service_account"] = service_account
    run = start_run(cluster, body, partial(click.echo, err=True))
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
