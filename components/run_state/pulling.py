"""The files of a manifest, brought into a local folder whole and checked, or not at all."""

import contextlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from components.object_store.client import Store
from components.object_store.downloads import ObjectDamaged, ObjectMissing, download_exact
from components.object_store.objects import fetch, list_objects
from components.run_state.contents import THREADS
from components.run_state.manifest import (
    CLEAN,
    FILES,
    MANIFEST,
    NEW_RUN,
    Manifest,
    StoredFile,
    read_manifest,
)
from components.run_state.reference import KEY
from nascore.data.file_access import parse_s3
from nascore.errors import InputError, ResourceUnavailable

DAMAGE_HELP = f"the state is damaged: {NEW_RUN}; {CLEAN}"
_ATTEMPTS = 3


def bring(manifest: Manifest, uri: str, folder: Path, *, store: Store) -> None:
    """Make a folder what the manifest says; what was there is replaced at the end.

    Args:
        uri: of the step's state.

    Raises:
        InputError: the state is damaged; nothing was changed here or there.
        ResourceUnavailable: the store is unreachable or refuses access, or the folder cannot be
            written.
    """

    def download(file: StoredFile) -> None:
        _download(file, f"{uri}/{FILES}/{file.object}", place, store)

    with _appearing(folder) as place:
        place.mkdir(parents=True)
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(download, manifest.files))
        for name in manifest.folders:
            (place / name).mkdir(parents=True, exist_ok=True)


def copy_part(root: str, run_id: str, step: str, part: str, folder: Path) -> bool:
    """Bring one subfolder of a step's state here, and leave the state to its owner.

    Args:
        part: name of the subfolder, such as `spool`.
        folder: becomes that subfolder.

    Returns:
        Whether there is any file in it; if not, the folder is left as it is.

    Raises:
        InputError: as `bring`.
    """
    uri = f"{root.rstrip('/')}/{run_id}/{step}"
    where = f"{uri}/{MANIFEST}"
    store = Store(key=KEY, trusted=True, damage_help=DAMAGE_HELP)
    for attempt in range(_ATTEMPTS):
        found = fetch(where, store=store)
        if found is None:
            return False
        manifest = read_manifest(found[0], where, run_id=run_id, step=step, config=None)
        files = tuple(
            replace(file, path=file.path.removeprefix(f"{part}/"))
            for file in manifest.files
            if file.path.startswith(f"{part}/")
        )
        if not files:
            return False
        try:
            bring(replace(manifest, files=files, folders=()), uri, folder, store=store)
            return True
        except InputError as error:
            # Its owner may have replaced the state meanwhile.
            if isinstance(error, ResourceUnavailable) or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def saved_steps(root: str, run_id: str) -> list[str]:
    """Return the names of the steps of a run that have a state. Raises InputError."""
    uri = f"{root.rstrip('/')}/{run_id}/"
    start = parse_s3(uri)[1]
    listed = list_objects(uri, store=Store(key=KEY, trusted=True))
    paths = (item.key.removeprefix(start).split("/") for item in listed)
    return [step for step, *rest in paths if rest == [MANIFEST]]


def _download(file: StoredFile, uri: str, place: Path, store: Store) -> None:
    path = place / file.path
    try:
        download_exact(uri, path, sha256=file.sha256, store=store)
    except ObjectMissing:
        raise _damaged(uri, file, "is missing") from None
    except ObjectDamaged:
        raise _damaged(uri, file, "has another content than was saved") from None
    path.chmod(file.mode)


def _damaged(uri: str, file: StoredFile, what: str) -> InputError:
    return InputError.of(
        KEY, uri, f"{what} ({file.path} of the state); {DAMAGE_HELP}. Nothing was removed"
    )


@contextlib.contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """Give a place that becomes the folder when the block has ended well."""
    place = folder.with_name(f".{folder.name}.pull")
    shutil.rmtree(place, ignore_errors=True)
    try:
        yield place
        shutil.rmtree(folder, ignore_errors=True)
        place.rename(folder)
    except OSError as error:
        raise ResourceUnavailable.of(
            KEY, folder, f"cannot be written ({error}); free space, or correct the rights"
        ) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
