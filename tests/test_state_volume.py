"""A volume that comes root-owned, as most do: the Job that hands it over, and what it says."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.config.settings import ClusterConfig
from components.run_state.reference import MOUNT, claim_of

FOLDER = Path(__file__).parent.parent / "manifests" / "state-volume"
USER = 10001


def objects() -> dict[str, Any]:
    parsed = yaml.safe_load_all((FOLDER / "state.yaml").read_text())
    return {one["kind"]: one for one in parsed}


def test_the_job_hands_the_volume_over_to_the_group_of_the_steps() -> None:
    spec = objects()["Job"]["spec"]["template"]["spec"]
    user = ClusterConfig().run_as_user
    security = spec["securityContext"]
    assert security["fsGroup"] == user
    assert (security["runAsUser"], security["runAsGroup"]) == (user, user)
    assert security["fsGroupChangePolicy"] == "OnRootMismatch"
    claim = objects()["PersistentVolumeClaim"]["metadata"]["name"]
    assert claim == claim_of("pvc:nas-state")
    assert spec["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim
    [one] = spec["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
    assert mounts == {"state": MOUNT, "script": "/etc/nas"}
    assert one["command"] == ["python3", "/etc/nas/prepare_state.py", MOUNT]


# --- the script, on a folder that belongs to root -------------------------------------------


@pytest.fixture
def volume() -> Iterator[Path]:
    """A volume as clusters give it: of root, mode 755. Others may not enter pytest's folders."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to root, and run the script as another user")
    with tempfile.TemporaryDirectory(prefix="nas-volume-") as folder:
        os.chmod(folder, 0o755)
        (Path(folder) / "volume").mkdir(mode=0o755)
        yield Path(folder) / "volume"


def run(volume: Path, *, group: int = USER) -> "subprocess.CompletedProcess[str]":
    """As the Job does; the script is read from its source, since its folder may be shut."""
    become = ["setpriv", f"--reuid={USER}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
    # The interpreter may lie where only root can look: reading is allowed, writing is not.
    become += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    become += ["--bounding-set=-all,+dac_read_search", "--"]
    command = [*become, sys.executable, "-I", str(FOLDER / "prepare_state.py"), str(volume)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_volume_that_ignores_the_group_is_refused_with_the_ways_out(volume: Path) -> None:
    done = run(volume)
    assert done.returncode == 1
    assert done.stdout == ""
    for part in (
        f"User {USER} of group {USER} cannot write on {volume} (0:0, mode 755)",
        "cluster.state=s3://BUCKET/PREFIX",
        f"chown {USER}:{USER} FOLDER && chmod 2770 FOLDER",
        "delete job nas-state-permissions",
    ):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert list(volume.iterdir()) == []


def test_a_volume_that_was_handed_over_is_found_writable(volume: Path) -> None:
    """As the kubelet does for fsGroup."""
    os.chown(volume, 0, USER)
    volume.chmod(0o2775)
    done = run(volume)
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout == f"User {USER} of group {USER} can write on {volume} (0:10001, mode 2775).\n"
    )
    assert list(volume.iterdir()) == []


def test_a_volume_of_the_user_is_opened_to_the_group(volume: Path) -> None:
    os.chown(volume, USER, USER)
    volume.chmod(0o700)
    assert run(volume).returncode == 0
    assert volume.stat().st_mode & 0o7777 == 0o2770


def test_a_full_volume_is_no_question_of_owners(volume: Path) -> None:
    mounted = ["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=1,mode=1777", "tmpfs", str(volume)]
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        done = run(volume)
    finally:
        subprocess.run(["umount", str(volume)], check=True)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "fsGroup" not in done.stderr
    assert "Traceback" not in done.stderr
