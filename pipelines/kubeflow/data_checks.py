"""Checks of the files that a run on a cluster reads, from this machine: data, weights, teacher."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from components.config.schema import Config
from components.run_state.reference import MOUNT, claim_of
from nascore.data.file_access import S3
from nascore.errors import Problem
from nascore.redaction import redact

_KEY = "data.source"
_SKIP = "--no-check where the image has this path"
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_READ_S = 5.0  # for one answer of the object store, since the user waits
_MISSING = ("NoSuchBucket", "NoSuchKey", "404")

Warn = Callable[[str], None]


def source_problems(config: Config) -> Iterator[Problem]:
    """Yield a problem if the data source is not well-formed."""
    from nascore.data.sources import uri_error

    message = uri_error(config.data.source)
    if message:
        yield Problem(_KEY, config.data.source, message)


def path_problems(config: Config, warn: Warn | None = None) -> Iterator[Problem]:
    """Yield a problem for each local path, which pods do not see unless the image has it.

    Args:
        config: configuration whose data source is well-formed.
        warn: prints the problem of an absolute path that exists here, instead of yielding it: the
            nodes may have the same volume.
    """
    for path, problem in _local_paths(config):
        if warn is not None and path.is_absolute() and path.exists():
            warn(str(problem))
        else:
            yield problem


def _local_paths(config: Config) -> Iterator[tuple[Path, Problem]]:
    kind, _, path = config.data.source.partition(":")
    if path and not path.startswith(S3) and not _is_on_volume(config, path):
        message = (
            "pods do not see the files of this machine; copy the data to an object store and "
            f"write {kind}:s3://BUCKET/KEY ({_SKIP})"
        )
        yield Path(path), Problem(_KEY, config.data.source, message)
    labels = config.data.labels or ""
    if labels.startswith(("/", "~")) and not _is_on_volume(config, labels):
        message = (
            "pods do not see the files of this machine; put the table into the data source, and "
            f"write its path there ({_SKIP})"
        )
        yield Path(labels), Problem("data.labels", labels, message)
    for key, source in _trained_files(config):
        if not source.startswith(S3) and not _is_on_volume(config, source):
            message = (
                "pods do not see the files of this machine; copy them to an object store and "
                f"write s3://BUCKET/KEY ({_SKIP})"
            )
            yield Path(source).expanduser(), Problem(key, source, message)


def _trained_files(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the settings that name weights, and a teacher that can be no name of a model."""
    training = config.training
    if training.weights is not None:
        yield "training.weights", training.weights
    if training.teacher is not None and training.teacher.startswith(("/", "~", "./", "../")):
        yield "training.teacher", training.teacher


def _is_on_volume(config: Config, path: str) -> bool:
    has_volume = config.cluster.state is not None and claim_of(config.cluster.state) is not None
    return has_volume and Path(path).is_relative_to(MOUNT)


def object_problems(config: Config, warn: Warn) -> Iterator[Problem]:
    """Yield a problem if the bucket or object of the data source does not exist.

    The store is asked with the address and the credentials of this machine. All that is no certain
    answer, such as a refusal of these credentials, is a warning: the pods have their own.

    Args:
        config: configuration whose data source is well-formed.
        warn: prints why the source was not checked.
    """
    _, _, uri = config.data.source.partition(":")
    if not uri.startswith(S3):
        return
    variables = {*config.cluster.secrets, *config.cluster.config_maps}
    here = [name for name in _ENDPOINTS if os.environ.get(name)]
    if not here and (theirs := [name for name in _ENDPOINTS if name in variables]):
        warn(f"{_KEY} was not checked: the pods have {theirs[0]}; set it here to check the data")
        return
    from components.object_store.connection import make_client  # boto3: a third of a second
    from components.object_store.remote import ask_for
    from components.object_store.s3_errors import (
        CERTAIN,
        RAISED,
        cause_of,
        code_of,
        final_message,
    )
    from components.steps.s3_source import is_file

    try:
        client = make_client(read_s=_READ_S, is_payer=config.s3.request_payer is not None)
        message = ask_for(client, uri, is_file=is_file(config))
    except RAISED as raised:
        error = cause_of(raised)
        if code_of(error) not in _MISSING and not isinstance(error, CERTAIN):
            warn(f"{_KEY} was not checked ({uri}): {final_message(error)}")
            return
        message = final_message(error)
    if message:
        where = redact(str(client.meta.endpoint_url))
        advice = f"asked was {where} (--no-check where only the cluster reaches the store)"
        yield Problem(_KEY, config.data.source, f"{message}; {advice}")
