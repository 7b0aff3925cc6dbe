"""URIs in settings: schemes that are not supported, and the form to write instead."""

import re

from nascore.redaction import redact_setting

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_OF_KIND = re.compile(r"(?:([a-z]+):)?([A-Za-z][A-Za-z0-9+.-]*://.*)", re.DOTALL)
_S3 = ("s3", "s3a", "s3n")  # Hadoop's names of the scheme
_S3_APIS = {
    "gs": "Google Cloud Storage has an S3 API (https://storage.googleapis.com)",
    "gcs": "Google Cloud Storage has an S3 API (https://storage.googleapis.com)",
    "oss": "Alibaba OSS has an S3 API",
    "cos": "Tencent COS has an S3 API",
    "obs": "Huawei OBS has an S3 API",
    "minio": "MinIO has an S3 API",
}
"""Object stores that take requests of S3; AWS_ENDPOINT_URL has their address."""
_NO_DATABASES = (*_S3, *_S3_APIS, "file", "http", "https", "redis", "rediss", "mongodb", "hdfs")


def unsupported_scheme(text: str, *, prefix: str = "", local: str = "PATH") -> str:
    """Return why the scheme of a URI is not supported, and what to write; empty if it is s3://.

    Args:
        text: URI or path; a path has no scheme and is not checked.
        prefix: text before the URI in the setting, such as `npz:`.
        local: form for files of this machine; PATH in it is replaced where the URI has a path.
    """
    match = _URI.fullmatch(text)
    if match is None or match[1] == "s3" or _has_secret(text):
        return ""
    scheme, rest = match[1], match[2]
    known = scheme.lower()
    uri = f"{prefix}s3://{rest}"
    if known == "file":
        path = "/" + rest.partition("/")[2] if "/" in rest else "PATH"
        advice = f"write {local.replace('PATH', path)}"
    elif known in _S3:
        advice = f"write {uri}"
    elif known in _S3_APIS:
        advice = f"{_S3_APIS[known]}: set AWS_ENDPOINT_URL and keys of that API, and write {uri}"
    else:
        advice = f"copy the files, and write {prefix}s3://BUCKET/KEY or {local}"
    return f"{scheme}:// is not supported; {advice}"


def check_files(text: str) -> str:
    """Return the setting if it is a path or an s3:// URI.

    Raises:
        ValueError: the scheme of the URI is not supported.
    """
    return _checked(text, unsupported_scheme(text))


def check_folder(text: object) -> object:
    """Return the setting unless it is a URI, which a folder of this machine cannot be.

    Raises:
        ValueError: it is one.
    """
    if isinstance(text, str) and _URI.fullmatch(text) and not _has_secret(text):
        raise ValueError("must be a folder of this machine, not a URI; write a path such as data")
    return text


def check_source(text: str) -> str:
    """Return the setting `data.source` if a URI in it is an s3:// URI.

    Raises:
        ValueError: the scheme of the URI is not supported.
    """
    match = _OF_KIND.fullmatch(text)
    if match is None:
        return text
    uri = match[2]
    guessed = "npz" if uri.endswith(".npz") else "imagefolder"
    prefix = f"{match[1] or guessed}:"
    return _checked(text, unsupported_scheme(uri, prefix=prefix, local=f"{prefix}PATH"))


def check_state(text: str) -> str:
    """Return the setting `cluster.state` if a URI in it is an s3:// URI.

    Raises:
        ValueError: the scheme of the URI is not supported.
    """
    return _checked(text, unsupported_scheme(text, local="pvc:NAME of a PersistentVolumeClaim"))


def database_url(text: str) -> str:
    """Return the URL of a database with the scheme that SQLAlchemy knows.

    `postgres://`, which many providers of databases print, is `postgresql://`. Other texts, such
    as `env:NAME`, are returned unchanged.

    Raises:
        ValueError: the URL is that of something else, such as an object store.
    """
    scheme, mark, rest = text.partition("://")
    name, plus, driver = scheme.partition("+")
    if mark and name.lower() in ("postgres", "postgresql"):
        return f"postgresql{plus}{driver}{mark}{rest}"
    if mark and name.lower() in _NO_DATABASES:
        raise ValueError(
            f"{scheme}:// is not the URL of a database; write postgresql://HOST/NAME or "
            "sqlite:///FILE"
        )
    return text


def tracking_uri(text: str) -> str:
    """Return the URI of an MLflow store, with `postgresql://` for `postgres://`.

    Raises:
        ValueError: the scheme is that of files or of an object store.
    """
    scheme, mark, rest = text.partition("://")
    if mark and scheme.lower() in ("http", "https"):
        return f"{scheme.lower()}{mark}{rest}"
    if mark and scheme.lower() in _NO_DATABASES:
        hint = "MLflow 3 keeps no runs in plain folders; " if scheme.lower() == "file" else ""
        raise ValueError(
            f"{scheme}:// is not supported; {hint}write sqlite:///FILE, or http://HOST:PORT of a "
            "tracking server"
        )
    return database_url(text)


def _has_secret(text: str) -> bool:
    """Return whether a URI has a secret, which is reported instead: it matters more."""
    return redact_setting(text) != text


def _checked(text: str, fault: str) -> str:
    if fault:
        raise ValueError(fault)
    return text
