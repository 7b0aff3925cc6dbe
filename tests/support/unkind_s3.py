"""A relay before a real S3 server that is as unkind as stores, proxies and firewalls in the field.

Evidence for each fault: stores with an S3 API document 501 NotImplemented for If-None-Match, older
ones answer 400, and others ignore headers that they do not know (boto3 #3738, #4398); Google's XML
API answers SignatureDoesNotMatch to the checksums of boto3 (bosh-s3cli #65); Aliyun OSS and Tencent
COS answer SecondLevelDomainForbidden to a bucket in the path (lakeFS #3613, s5cmd #518); MinIO's
console answers 200 with its page to every path; firewalls and log-in proxies answer 403 or 302 with
HTML; Go's servers answer 400 with a sentence to http on their port for https.
"""

import re

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from s3 import ACCESS_KEY, REGION, SECRET_KEY, Relay

_CONDITION = re.compile(rb"\r\nIf-(?:None-)?Match:", re.IGNORECASE)
_CHECKSUM = re.compile(rb"\r\nx-amz-(?:sdk-checksum-algorithm|checksum-|trailer)", re.IGNORECASE)
_PAYER = re.compile(rb"\r\nx-amz-request-payer: requester\r\n", re.IGNORECASE)
PAGE = "<!DOCTYPE html><html><head><title>Console</title></head><body>log in</body></html>"


def _error(code: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code></Error>'


class UnkindRelay(Relay):
    """Passes requests on to a server, except for those that `fault` is about.

    `ignore conditions`: writes are made whatever their condition. `501 to conditions`,
    `400 to conditions`: such writes are refused. `no checksums`: requests with a checksum of boto3
    are refused. `requester pays`: requests without the header are refused. `virtual only`: a bucket
    in the path is refused. `console`, `firewall`, `log-in`, `circle`, `region`, `skew`, `tls`:
    every request gets the same answer.
    """

    fault = ""

    def answer(self, head: bytes) -> bytes | None:
        """Return the answer in place of the server's."""
        is_write = head.startswith((b"PUT", b"POST"))
        has_condition = is_write and _CONDITION.search(head) is not None
        match self.fault:
            case "501 to conditions" if has_condition:
                return _answer(501, _error("NotImplemented"))
            case "400 to conditions" if has_condition:
                return _answer(400, _error("InvalidArgument"))
            case "no checksums" if is_write and _CHECKSUM.search(head):
                return _answer(403, _error("SignatureDoesNotMatch"))
            case "requester pays" if not _PAYER.search(head):
                return _answer(403, _error("AccessDenied"))
            case "virtual only" if not re.search(rb"\r\nHost: data\.", head):
                return _answer(403, _error("SecondLevelDomainForbidden"))
            case "console":
                return _answer(200, PAGE, "text/html")
            case "firewall":
                return _answer(403, PAGE, "text/html")
            case "log-in":
                return _answer(
                    302, PAGE, "text/html", "Location: https://login.example.org/?t=s3cr"
                )
            case "circle":
                return _answer(301, "", "text/plain", f"Location: {self.url}/data/")
            case "region":
                return _answer(
                    301, _error("PermanentRedirect"), "", "x-amz-bucket-region: eu-west-1"
                )
            case "skew":
                return _answer(403, _error("RequestTimeTooSkewed"))
            case "tls":
                return _answer(400, "Client sent an HTTP request to an HTTPS server.\n")
        return None

    def altered(self, head: bytes) -> bytes:
        """Return the request that the server gets, signed again."""
        if self.fault != "ignore conditions" or not head.startswith((b"PUT", b"POST")):
            return head
        lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        return _signed([line for line in lines if not _CONDITION.match(b"\r\n" + line)])


def _answer(status: int, body: str, kind: str = "application/xml", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Answer", f"Content-Length: {len(body)}", *headers]
    lines += [f"Content-Type: {kind}"] if kind else []
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def _signed(lines: list[bytes]) -> bytes:
    """Return the head of a request with a signature of its headers as they are now."""
    first, *others = [line.decode() for line in lines]
    method, target, _ = first.split(" ")
    pairs = [line.split(": ", 1) for line in others]
    headers = dict(pair for pair in pairs if pair[0].lower() != "authorization")
    host = next(value for name, value in pairs if name.lower() == "host")
    request = AWSRequest(method, f"http://{host}{target}", headers=headers)
    digest = request.headers["X-Amz-Content-SHA256"]  # of the body, which stays as it is
    auth = S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION)
    auth.payload = lambda request: digest
    auth.add_auth(request)
    shown = [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join([first, *shown, "", ""]).encode()
