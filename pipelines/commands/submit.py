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
from pipelines.commands.cluster_options import Find, as_json, on_cluster
from pipelines.commands.options import configuration, given
from pipelines.commands.shortcuts import shortcuts
from pipelines.definitions.kinds import KINDS, Kind

if TYPE_CHECKING:
    from components.config.schema import Config
    from pipelines.kubeflow.client import Cluster, Thing


_NO_IMAGE = (
    "--image is not given, so pods use {}, which a registry has only where it was pushed; name "
    "yours: --image REGISTRY/nas-python@sha256:..."
)

kind_option = click.option(
    "--kind", type=click.Choice(KINDS), default="search", show_default=True, help="Which pipeline."
)
image_option = click.option(
    "--image", callback=given, help="Image of all steps, by digest or by a tag that never moves."
)
experiment_option = click.option(
    "--experiment",
    callback=given,
    metavar="NAME",
    help="Made when it is new [tracking.experiment].",
)
poll_option = click.option(
    "--poll",
    "poll_s",
    type=click.FloatRange(min=0.1),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks while it waits.",
)
wait_option = click.option("--wait", "is_waiting", is_flag=True, help="Follow the run to its end.")
retries_option = click.option(
    "--retries",
    type=click.IntRange(min=0, max=100),
    default=0,
    show_default=True,
    metavar="N",
    help="With --wait: start it again when an outage or a lost pod has ended it, so many times.",
)
account_option = click.option(
    "--service-account",
    callback=given,
    metavar="NAME",
    help="Kubernetes account of the pods [KFP's].",
)
no_check_option = click.option(
    "--no-check", is_flag=True, help="Do not look whether the run could work on the cluster."
)


def prepare(
    config: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    image: str | None,
    problems: list[Problem],
) -> "Config | None":
    """The checked configuration, or None with what is wrong in `problems`."""
    from components.image import IMAGE
    from components.tracking.client import sqlite_path
    from pipelines.config import resolve
    from pipelines.definitions.compiling import check_cluster, check_image
    from pipelines.kubeflow.before_submit import source_problems

    resolved = None
    with collect_problems(problems):
        check_image(image or IMAGE)
    with collect_problems(problems):
        resolved = resolve(config, preset, settings)
        if image is None:
            click.echo(f"warning: {_NO_IMAGE.format(IMAGE)}", err=True)
        problems += source_problems(resolved)
        check_cluster(resolved)
        if sqlite_path(resolved.tracking.uri) is not None:
            click.echo(
                "warning: tracking.uri is a SQLite file, which is gone with its pod; give the "
                "address of an MLflow server",
                err=True,
            )
    return resolved


def plugins(config: "Config") -> "Thing":
    """The part of a request that tells Kubeflow's own plugins what to leave alone."""
    return {} if config.tracking.kfp_plugin else {"plugins_input": {"mlflow": {"disabled": True}}}


def source(
    cluster: "Cluster", config: "Config", *, kind: Kind, image: str | None, pipeline: str | None
) -> "Thing":
    """The part of a request that says what runs: the compiled pipeline, or a version made of it."""
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
@experiment_option
@click.option(
    "--run-name", callback=given, metavar="NAME", help="Name of the run [kind, method and time]."
)
@click.option(
    "--pipeline",
    callback=given,
    metavar="NAME",
    help="Also upload it as a new version of this one.",
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
    experiment: str | None,
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

    With --wait the exit status is 0 when the run, or a retry of it, succeeds and 1 when it fails.
    What was wrong input, too little memory, a crash or a cancel is not retried. Nothing is cached.
    A run that could never work is refused, as far as the cluster shows it (nas doctor --cluster).
    """
    from components.config.schema import dumps

    problems: list[Problem] = retries_problems(retries, is_waiting=is_waiting)
    connection = None
    with collect_problems(problems):
        connection = find()
    resolved = prepare(config, preset, settings, image, problems)
    if problems or resolved is None or connection is None:
        raise InputError(problems)
    from pipelines.kubeflow.before_submit import refuse_hopeless
    from pipelines.kubeflow.client import Cluster
    from pipelines.kubeflow.starting import start_run

    if not no_check:
        refuse_hopeless(
            resolved, image, connection=connection, service_account=service_account, kind=kind
        )
    cluster = Cluster(connection)
    body: dict[str, Any] = {
        "display_name": run_name or f"{kind} {resolved.method} {datetime.now(UTC):%Y-%m-%d %H:%M}",
        "experiment_id": cluster.experiment(
            experiment or resolved.tracking.experiment, partial(click.echo, err=True)
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
    """What is wrong with `--retries`: somebody has to wait for the end."""
    if not retries or is_waiting:
        return []
    message = "needs --wait; without it, call nas retry when the run has failed"
    return [Problem("--retries", str(retries), message)]


def started(
    cluster: "Cluster",
    run: "Thing",
    *,
    poll_s: float | None,
    retries: int,
    as_json: bool,
    also: Mapping[str, Any] | None = None,
    before: tuple[str, ...] = (),
) -> None:
    """Says that a run has been started, and follows it when there is a `poll_s`.

    Args:
        also: what the JSON holds besides what it says of the run.
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
    """Say how far a run on Kubeflow is, or how it ended and why; RUN is its id.

    What a run that did not succeed has left open in MLflow is closed. With --wait the exit status
    is 0 when the run succeeds and 1 when it fails.
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
