"""Opens the S3 source of a run, with copies that its steps share."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from components.config.schema import Config
from components.steps.state import state_folder
from nascore.data.archives import is_archive_name
from nascore.errors import ResourceUnavailable

if TYPE_CHECKING:  # boto3 costs a third of a second, and most runs need none
    from components.object_store.remote import S3

CACHE = "NAS_CACHE_DIR"


def open_remote(config: Config, *, trusted: bool = False) -> "S3 | None":
    """Return the reader of an `s3://` source; None for any other. Sends no request yet.

    Args:
        config: of the run.
        trusted: an earlier step has checked the address, so an unreachable server is waited for.

    Raises:
        InputError: the folder of copies cannot be written.
    """
    data = config.data
    if not data.source.partition(":")[2].startswith("s3://"):
        return None
    from components.object_store.remote import S3

    folder, given = _folder()
    _check_folder(folder, given)
    return S3(
        folder,
        cache_bytes=data.cache_mb * 2**20,
        trusted=trusted,
        is_payer=config.s3.request_payer is not None,
    )


def _folder() -> tuple[Path, str | None]:
    """Return the folder of copies, and the variable that names it, if it is set."""
    given = os.environ.get(CACHE)
    return (Path(given).expanduser() if given else state_folder() / "s3"), given


def _check_folder(folder: Path, given: str | None) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        key, advice = (CACHE, "name another folder") if given else ("NAS_STATE_DIR", "free space")
        message = f"copies of S3 objects cannot be written ({error.strerror}); {advice}"
        raise ResourceUnavailable.of(key, folder, message) from error


def check_remote(config: Config) -> None:
    """Check that an `s3://` source can be read, by the first requests of a run, and be copied.

    Raises:
        InputError: it cannot.
    """
    _, _, uri = config.data.source.partition(":")
    if uri.startswith("s3://"):
        from components.object_store.remote import check_source

        folder, given = _folder()
        if given:  # the state folder is made by the run
            _check_folder(folder, given)
        is_payer = config.s3.request_payer is not None
        check_source(uri, is_file=is_file(config), is_payer=is_payer)


def is_file(config: Config) -> bool:
    """Return whether the source is one file, not a folder."""
    kind, _, path = config.data.source.partition(":")
    return kind != "imagefolder" or is_archive_name(path)
