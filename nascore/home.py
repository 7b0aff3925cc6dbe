"""The home folder and the name of the user, where the system knows neither.

A container that runs under any user id, and a service without HOME, have none. Libraries then fail
when they are imported, long after the start of a run.
"""

import getpass
import os
import tempfile
from pathlib import Path


def ensure_home() -> None:
    """Set HOME and LOGNAME for this process and its children, if they cannot be determined.

    The folder lies below that for temporary files and belongs to this user alone.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(_own_folder())
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        os.environ["LOGNAME"] = f"user-{os.getuid()}"


def _own_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"nas-home-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid == os.getuid():
            return folder
    except OSError:
        pass  # it is a link or a file of another user
    return Path(tempfile.mkdtemp(prefix="nas-home-"))
