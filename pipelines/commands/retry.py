"""`nas retry`: continue a run on Kubeflow that has ended, by a new run."""

from functools import partial

import click

from nascore.errors import InputError
from pipelines.commands.cluster_options import Find, as_json, on_cluster, poll_option
from pipelines.commands.options import given
from pipelines.commands.submit import (
    retries_option,
    retries_problems,
    started,
    wait_option,
)


@click.argument("run_id", metavar="RUN", callback=given)
@click.option("--force", is_flag=True, help="Also retry a run that was refused for its input.")
@wait_option
@retries_option
@poll_option
@as_json
@on_cluster
def retry(
    find: Find,
    run_id: str,
    force: bool,
    is_waiting: bool,
    retries: int,
    poll_s: float,
    as_json: bool,
) -> None:
    """Continue a run on Kubeflow that has failed or was cancelled; RUN is its id.

    A new run of the same pipeline, configuration and account works on the state of the old one:
    finished steps return their outputs, and the search resumes its study. KFP's own Retry hangs if
    the pipeline has a loop, as with several workers.
    """
    from pipelines.kubeflow import retry as retrying
    from pipelines.kubeflow.client import Cluster
    from pipelines.kubeflow.run_origin import origin_of
    from pipelines.kubeflow.starting import start_run
    from pipelines.kubeflow.status.run_end import failures

    problems = retries_problems(retries, is_waiting=is_waiting)
    if problems:
        raise InputError(problems)
    cluster = Cluster(find())
    run = cluster.run(run_id)
    origin = origin_of(cluster, run)
    chain = retrying.chain_of(cluster, run, origin.first)
    retrying.check(run, origin, chain, is_lost=retrying.is_lost(cluster, run))
    if not force:
        retrying.check_input(run, failures(cluster, run))
    say = partial(click.echo, err=as_json)
    lost = retrying.losses(origin)
    if lost:
        say(lost)
    again = start_run(cluster, retrying.request(run, origin, chain), partial(click.echo, err=True))
    started(
        cluster,
        again,
        poll_s=poll_s if is_waiting else None,
        retries=retries,
        as_json=as_json,
        also={"retry_of": origin.first},
        before=(run_id,),
    )
