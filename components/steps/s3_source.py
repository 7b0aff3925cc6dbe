"""Where the steps of a run keep copies of what they read from S3."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from components.steps.state import state_folder
from nascore.config import DataConfig

if TYPE_CHECKING:  # boto3 costs a third of a second, and most runs need none
    from components.object_store.remote import S3


def open_remote(data: DataConfig, *, trusted: bool = False) -> "S3 | None":
    """What reads an `s3://` source; None for any other. Nothing is asked of the server yet.

    Args:
        trusted: the address has been found right by an earlier step: a server that is away is
            waited for from the start.
    """
    if not data.source.partition(":")[2].startswith("s3://"):
        return None
    from components.object_store.remote import S3

    given = os.environ.get("NAS_CACHE_DIR")
    folder = Path(given) if given else state_folder() / "s3"
    return S3(folder, cache_bytes=data.cache_mb * 2**20, trusted=trusted)
