"""Objects, and uploads that nobody will finish, removed."""

import functools
from collections.abc import Callable
from typing import Any

from components.object_store.client import Store, code_of
from components.object_store.objects import parsed


def remove(uri: str, *, store: Store) -> None:
    """Remove an object; one that is not there is no error. Raises InputError."""
    bucket, key = parsed(uri, store)
    store.call(uri, lambda client: client.delete_object(Bucket=bucket, Key=key))


def abort_uploads(prefix: str, *, is_abandoned: Callable[[str], bool], store: Store) -> int:
    """Abort uploads in parts whose writer was killed: their parts take room, and are not listed.

    Args:
        prefix: URI with which the names of the objects begin.
        is_abandoned: by the URI of the object; one that somebody still writes must be left alone.

    Returns:
        How many there were.

    Raises:
        InputError: they cannot be listed or aborted.
    """
    bucket, start = parsed(prefix, store)
    count, more = 0, dict[str, str]()
    while True:
        page = store.call(prefix, functools.partial(_page, bucket=bucket, prefix=start, **more))
        for upload in page.get("Uploads", []):
            uri = f"s3://{bucket}/{upload['Key']}"
            if is_abandoned(uri):
                store.call(uri, functools.partial(_abort, bucket=bucket, upload=upload))
                count += 1
        if not page.get("IsTruncated"):
            return count
        more = {
            "KeyMarker": page["NextKeyMarker"],
            "UploadIdMarker": page.get("NextUploadIdMarker", ""),
        }


def _page(client: Any, *, bucket: str, prefix: str, **more: str) -> dict[str, Any]:
    page: dict[str, Any] = client.list_multipart_uploads(Bucket=bucket, Prefix=prefix, **more)
    return page


def _abort(client: Any, *, bucket: str, upload: dict[str, Any]) -> None:
    try:
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    except Exception as error:
        if code_of(error) != "NoSuchUpload":  # its writer has finished or aborted it meanwhile
            raise
