"""Make sure that the steps can write on a volume, or print why not and what to do.

The Job nas-state-permissions runs it as user and group of the steps.
"""

import os
import stat
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

_HELP = """\
The cluster did not hand the volume over to fsGroup {group}: NFS and other kinds of storage leave it
as it is (hostPath; a CSIDriver with fsGroupPolicy None). Do one of these:
- Keep the state in an object store: cluster.state=s3://BUCKET/PREFIX needs no volume.
- On the server of the volume: chown {user}:{group} FOLDER && chmod 2770 FOLDER (or parameters of
  the storage class for owner and mode), then delete the Job and apply it again:
  kubectl -n nas delete job nas-state-permissions
- Take a storage class whose driver supports fsGroup, for a new claim."""


def prepare(root: Path) -> str:
    """Write on the volume as the steps do, and let the group write.

    Raises:
        OSError: something is not allowed, or there is no space.
    """
    mode = stat.S_IMODE(root.stat().st_mode)
    if root.stat().st_uid == os.getuid():
        root.chmod(mode | 0o2770)  # new files get the same group
    with TemporaryDirectory(prefix=".permissions-", dir=root) as folder:
        draft = Path(folder) / "draft"
        draft.write_text("written")
        draft.rename(Path(folder) / "renamed")
    found = root.stat()
    return f"{found.st_uid}:{found.st_gid}, mode {stat.S_IMODE(found.st_mode):o}"


def main() -> None:
    """Prepare the folder that is named on the command line."""
    root = Path(sys.argv[1])
    user, group = os.getuid(), os.getgid()
    try:
        print(f"User {user} of group {group} can write on {root} ({prepare(root)}).")
    except OSError as error:
        found = root.stat()
        owner = f"{found.st_uid}:{found.st_gid}, mode {stat.S_IMODE(found.st_mode):o}"
        reason = f"User {user} of group {group} cannot write on {root} ({owner}): {error.strerror}."
        if isinstance(error, PermissionError):
            reason += "\n" + _HELP.format(user=user, group=group)
        sys.exit(reason)


if __name__ == "__main__":
    main()
