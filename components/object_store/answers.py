"""Answers of servers that are no object store: web pages, redirects, and https at an http address.

botocore reads such an answer as an empty object, as an internal error of the store, or follows it
in circles.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_NEEDS_TLS = re.compile(rb"HTTPS (?:server|port)|SSL-enabled server port", re.IGNORECASE)
_REFUSALS = (401, 403, 404, 405, 407, 511)


class NotS3Error(Exception):
    """The server answers, but not as S3 does."""


class NeedsTlsError(Exception):
    """The server speaks https, but its address says http."""


def check_answer(response_dict: Mapping[str, Any], **kwargs: Any) -> None:
    """Check that an answer is one of an object store, before botocore parses it.

    Args:
        response_dict: status, headers and body, as botocore's event `before-parse` has them.

    Raises:
        NotS3Error: it is a web page, or a redirect to another address.
        NeedsTlsError: the server was asked by http, but speaks https.
    """
    status, headers = int(response_dict["status_code"]), response_dict["headers"]
    body = response_dict["body"] if isinstance(response_dict["body"], bytes) else b""
    if status == 400 and _NEEDS_TLS.search(body):
        raise NeedsTlsError("the server speaks https")
    if 300 <= status < 400 and status != 304 and not _names_region(headers, body):
        raise NotS3Error(f"it redirects to {_shown(headers.get('location', '')) or 'no address'}")
    if _is_page(headers) and (status < 300 or status in _REFUSALS):
        by = "" if status < 300 else ", such as of a firewall, a proxy or a log-in"
        raise NotS3Error(f"it sends a web page with HTTP status {status}{by}")


def _names_region(headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether a redirect is that of S3 to another region."""
    return "x-amz-bucket-region" in headers or b"<Code>" in body


def _is_page(headers: Mapping[str, str]) -> bool:
    """Return whether an answer is HTML that is no stored object."""
    is_html = headers.get("content-type", "").lower().startswith("text/html")
    return is_html and "etag" not in headers and "x-amz-request-id" not in headers


def _shown(address: str) -> str:
    """Return an address without its query, which may hold a signature."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"[:120] if host else parts.path[:120]
