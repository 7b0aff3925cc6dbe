"""PID 1 of a pod's main container: Argo's emissary with KFP's launcher below it, for its signals.

`emissary.py GRACE_S COMMAND...`; runs on the image's own Python without its packages.
"""

import os
import signal
import subprocess
import sys
import time
from types import FrameType

GRACE_S = float(sys.argv[1])
# A: util/osspecific Setpgid: launcher and work are one process group of their own.
child = subprocess.Popen(sys.argv[2:], process_group=0)


def stop(signum: int, frame: FrameType | None) -> None:
    """The signal goes to the group; what is left of it dies with PID 1 (H2).

    A: cmd/argoexec/commands/emissary.go:182-191, 282. The launcher has no handler and dies at
    once (K: v2/component/launcher_v2.go exec.Command), and the emissary sees that within 1 s.
    """
    os.killpg(child.pid, signum)
    time.sleep(GRACE_S)
    os._exit(128 + signum)


signal.signal(signal.SIGTERM, stop)
# N4: the launcher turns every bad end into exit code 1 (K: v2/cmd/launcher-v2/main.go glog.Exit).
sys.exit(1 if child.wait() else 0)
