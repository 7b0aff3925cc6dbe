"""Opens the S3 source of a run, with copies that its steps share."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from components.steps.state import state_folder
from nascore.config import DataConfig

if TYPE_CHECKING:  # boto3 costs a third of a second, and most runs need none
    from components.object_store.remote import S3


def open_remote(data: DataConfig, *, trusted: bool = False) -> "S3 | None":
    """Return the reader of an `s3://` source; None for any other. Sends no request yet.

    Args:
        data: settings of the data.
        trusted: an earlier step has checked the address, so an unreachable server is waited for.
    """
    if not data.source.partition(":")[2].startswith("s3://"):
        return None
    from components.object_store.remote import S3

    given = os.environ.get("NAS_CACHE_DIR")
    folder = Path(given) if given else state_folder() / "s3"
    return S3(folder, cache_bytes=data.cache_mb * 2**20, trusted=trusted)
