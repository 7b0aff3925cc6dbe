"""The boto3 client: address and addressing style as the user has configured them, and time limits.

Credentials come from boto3's usual chain (environment, role, profile) and the address from
AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or boto3's configuration file; neither is ever part of the
configuration of a run.
"""

import os
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config

from components.object_store.answers import check_answer
from components.object_store.environment import ENDPOINTS, tidy_environment

# One request ends within 3 * (3 + 30) s and two pauses of at most 2 s. A wrong address: 15 s.
_CONNECT_S, READ_S, _ATTEMPTS = 3, 30, 3
_CONNECTIONS = 64  # as many as there may be threads


def make_client(
    *,
    read_s: float = READ_S,
    if_absent: bool = False,
    is_payer: bool = False,
    with_checksums: bool = True,
) -> Any:
    """Return a client of a session of its own: boto3's default one is not safe in threads.

    Args:
        read_s: time limit of an answer.
        if_absent: every object is written only where none is; boto3's transfer manager has no
            argument for this condition, so that it is added to the requests it makes.
        is_payer: the requester pays; the account of the bucket refuses other requests.
        with_checksums: False sends no checksums, whatever the user has configured.
    """
    tidy_environment()
    core = botocore.session.get_session()
    options: dict[str, Any] = {"read_timeout": read_s}
    if not with_checksums:
        options["request_checksum_calculation"] = "when_required"
    given = core.get_scoped_config().get("s3")
    has_style = isinstance(given, dict) and "addressing_style" in given
    # Servers other than Amazon's seldom have a name for each bucket.
    path_style = not has_style and any(os.environ.get(name) for name in ENDPOINTS)
    session = boto3.session.Session(botocore_session=core)
    client = _client(session, path_style=path_style, **options)
    if not has_style and not path_style and not _is_amazon(client.meta.endpoint_url):
        client = _client(session, path_style=True, **options)
    events = client.meta.events
    events.register_first("before-parse.s3", check_answer)  # botocore turns pages into status 500
    if if_absent:
        for operation in ("PutObject", "CompleteMultipartUpload"):
            events.register(f"provide-client-params.s3.{operation}", _add_condition)
    if is_payer:
        events.register("provide-client-params.s3", _add_payer)
    return client


def _client(session: Any, *, path_style: bool, **options: Any) -> Any:
    config = Config(
        connect_timeout=_CONNECT_S,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=_CONNECTIONS,
        s3={"addressing_style": "path"} if path_style else None,
        **options,
    )
    return session.client("s3", config=config, region_name=session.region_name or "us-east-1")


def _is_amazon(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    return ".amazonaws." in f".{host}"


def _add_condition(params: dict[str, Any], **kwargs: Any) -> None:
    params["IfNoneMatch"] = "*"


def _add_payer(params: dict[str, Any], model: Any, **kwargs: Any) -> None:
    if "RequestPayer" in model.input_shape.members:
        params["RequestPayer"] = "requester"


def speaks_tls(address: str) -> bool:
    """Return whether the server of an http:// address accepts https."""
    parts = urlsplit(address)
    if parts.scheme != "http" or parts.hostname is None:
        return False
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent
    try:
        place = parts.hostname, parts.port or 80
        with (
            socket.create_connection(place, timeout=_CONNECT_S) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname),
        ):
            return True
    except (OSError, ValueError):
        return False
