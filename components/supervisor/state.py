"""The folder of a step's state on a cluster, and its copy in an object store.

`NAS_STATE_ROOT` is a folder of a mounted volume, or `s3://BUCKET/PREFIX`. With an object store the
state is a folder of this pod, copied from the store before the work starts and back while it runs.
Without either the state lives as long as the pod: a crash of the work costs nothing, the loss of
the pod costs the step (a search in a database continues).
"""

import contextlib
import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.config.parameters import NAMES
from components.run_identity import run_id
from components.run_state.marker import mark
from components.variables import STATE_ROOT
from nascore.errors import InputError

if TYPE_CHECKING:  # boto3 costs a third of a second, and a step with a volume needs none
    from components.run_state.object_store import ObjectState

S3 = "s3://"
_POLL_S = 1.0

Say = Callable[[str], None]


def in_object_store() -> bool:
    return os.environ.get(STATE_ROOT, "").startswith(S3)


def run_folder() -> Path:
    """Return the folder of this run, which is made and can be written.

    Raises:
        InputError: the volume cannot be written, or the run has no identifier.
    """
    root, run = os.environ.get(STATE_ROOT, ""), run_id()
    if not root or root.startswith(S3):
        return _folder_of_pod(run)
    if not run:
        raise InputError.of("NAS_RUN_ID", "", "must be the identifier of the run, as on Kubeflow")
    folder = Path(root) / run
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            mark(folder, run)
            return folder
    except OSError as error:
        raise InputError.of("cluster.state", root, _not_writable(Path(root), error)) from error


def _folder_of_pod(run: str | None) -> Path:
    if not run:
        # Outside Kubeflow, such as in kfp's local runner: runs on one machine share nothing.
        return Path(tempfile.mkdtemp(prefix="nas-state-"))
    folder = Path(tempfile.gettempdir()) / "nas-state" / run
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def identity_of(executor_input: str) -> str | None:
    """Return what identifies the configuration of a step; None where it has none.

    The first step gets it as parameters, the others in the folder of the data. The settings of the
    cluster are left out: more memory is a reason to retry.
    """
    inputs = json.loads(executor_input).get("inputs", {})
    parameters = inputs.get("parameterValues", {})
    config = config_of(executor_input)
    if config is not None:
        text = json.dumps({name: value for name, value in config.items() if name != "cluster"})
    elif "config" in parameters:  # YAML, or refused by the step
        text = str(parameters["config"])
    else:
        return None
    given = {name: parameters[name] for name in NAMES if parameters.get(name)}
    text += json.dumps(given) if given else ""
    return hashlib.sha256(text.encode()).hexdigest()


def config_of(executor_input: str) -> dict[str, Any] | None:
    """Return the configuration in the inputs of a step; None where none can be read.

    The first step gets the compiled one and parameters, the others the result with the data.
    """
    inputs = json.loads(executor_input).get("inputs", {})
    parameters = inputs.get("parameterValues", {})
    texts = [str(parameters.get("config", ""))]
    given = {name: str(parameters[name]) for name in NAMES if parameters.get(name)}
    if texts[0] and given:
        from components.config.parameter_values import unchecked  # pydantic: half a second

        with contextlib.suppress(InputError):  # the step refuses it
            return unchecked(texts[0], given)
    for artifact in inputs.get("artifacts", {}).get("dataset", {}).get("artifacts", ()):
        # Where KFP's launcher puts it.
        scheme, _, rest = str(artifact.get("uri", "")).partition("://")
        path = Path(f"/{scheme}/{rest}" if rest else scheme) / "config.json"
        if path.is_file():
            texts.append(path.read_text())
    for text in texts:
        with contextlib.suppress(ValueError):
            config = json.loads(text)
            if isinstance(config, dict):
                return config
    return None


def _not_writable(root: Path, error: OSError) -> str:
    owner = ""
    try:
        found = root.stat()
        owner = f" of {found.st_uid}:{found.st_gid}, mode {found.st_mode & 0o777:o},"
    except OSError:  # the volume does not exist, as the first error reports
        pass
    return (
        f"the volume's folder{owner} cannot be written by user {os.getuid()}, groups "
        f"{sorted({os.getgid(), *os.getgroups()})} ({error.strerror}); apply the Job "
        "nas-state-permissions of the manifests once, or keep the state in an object store: "
        "cluster.state=s3://BUCKET/PREFIX"
    )


class StateCopy:
    """Sends the state of a step to the object store while the work goes on, in a thread.

    Args:
        state: of the step.
        say: gets a sentence when the store cannot be reached, and when it can again.
        on_lost: called when another pod does this step now, whose work alone counts.
    """

    def __init__(self, state: "ObjectState", say: Say, on_lost: Callable[[], None]) -> None:
        self._state, self._say, self._on_lost = state, say, on_lost
        self._over = threading.Event()
        self._is_failing = False
        self._is_lost = False  # another pod does this step now
        self._thread = threading.Thread(target=self._run, name="state", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self, *, done: bool, limit_s: float) -> None:
        """Send the last state, and try again for `limit_s` seconds while the store cannot be used.

        Args:
            done: the step has succeeded; only what later steps and tries need is kept.
        """
        self._over.set()
        self._thread.join()
        end = time.monotonic() + limit_s
        while not self._push(done=done) and not self._is_lost and time.monotonic() < end:
            time.sleep(_POLL_S)

    def _run(self) -> None:
        from components.run_state.object_store import PushSchedule

        schedule = PushSchedule()
        while not self._over.wait(_POLL_S):
            if self._is_lost or not schedule.is_due():
                continue
            start = time.monotonic()
            note = schedule.pushed if self._push(done=False) else schedule.failed
            note(time.monotonic() - start)

    def _push(self, *, done: bool) -> bool:
        from components.run_state.object_store import StateTaken

        try:
            self._state.push(done=done)
        except StateTaken as error:
            self._say(str(error))
            self._is_lost = True
            self._on_lost()
            return False
        except InputError as error:  # the store cannot be used; the work does not wait for it
            if not self._is_failing:
                self._say(f"the state is not saved: {error}")
            self._is_failing = True
            return False
        if self._is_failing:
            self._say("the state is saved again")
        self._is_failing = False
        return True
