"""Why a step failed, as one log line: the log is all that KFP keeps of a pod.

KFP's API fills no `error` of a task, and its launcher turns every bad end into exit code 1. The
supervisor therefore writes the reason as the last line of the log, where `nas status`, `nas retry`
and `nas submit --retries` find it.
"""

import json
import sys
import traceback
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Literal, Self, get_args

from nascore.errors import InputError, ResourceUnavailable, ServiceUnavailable
from nascore.redaction import redact

Kind = Literal["input", "memory", "crash", "outage", "stopped"]
"""`input`: the input is wrong. `memory`: killed for memory. `crash`: the work failed or was killed.
`outage`: a service stayed unreachable. `stopped`: SIGTERM asked for the end."""

TAG_REASON = "nas.end_reason"
TAG_KIND = "nas.end_kind"
REASON_CHARS = 2000
_MARK = "nas-end: "


@dataclass(frozen=True, slots=True)
class End:
    """The end of a step that did not succeed.

    Attributes:
        step: name of the step, such as `train_final`.
        reason: what happened and what to do, without secrets.
    """

    step: str
    kind: Kind
    reason: str

    def __post_init__(self) -> None:
        # The reason is written to logs and to MLflow.
        object.__setattr__(self, "reason", redact(self.reason))

    def line(self) -> str:
        """Return the log line, whose newlines are escaped."""
        shown = self.reason
        if len(shown) > REASON_CHARS:
            shown = f"{shown[: REASON_CHARS - 3]}..."
        return _MARK + json.dumps(asdict(self) | {"reason": shown})

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the end in a line; None when it has none."""
        start = text.find(_MARK)
        if start < 0:
            return None
        try:
            fields = json.loads(text[start + len(_MARK) :])
            found = cls(str(fields["step"]), fields["kind"], str(fields["reason"]))
        except (ValueError, KeyError, TypeError):
            return None
        return found if found.kind in get_args(Kind) else None

    @classmethod
    def parse_last(cls, log: str) -> Self | None:
        """Return the last end in a log; None when the step wrote none, as when its pod was lost."""
        for line in reversed(log.splitlines()):
            found = cls.parse(line)
            if found is not None:
                return found
        return None


END_FILE = "NAS_END_FILE"
"""Environment variable: the file to which the work writes its end, for the supervisor."""

_STOPPED = 143  # 128 + SIGTERM: the work was asked to stop


def read_input(text: str) -> dict[str, Any]:
    """Read the argument that KFP's launcher passes.

    Raises:
        InputError: it is no JSON object with outputs.
    """
    try:
        executor_input = json.loads(text)
    except ValueError as error:
        raise InputError.of("--executor_input", text[:80], f"is no JSON ({error})") from error
    if not isinstance(executor_input, dict) or "outputs" not in executor_input:
        message = "is not what KFP's launcher passes: it has no outputs"
        raise InputError.of("--executor_input", text[:80], message)
    return executor_input


def brief_excepthook(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print wrong input without a traceback, and tracebacks without secrets.

    For `sys.excepthook`.
    """
    if isinstance(error, InputError):
        print(f"The input is wrong:\n{error}", file=sys.stderr)
    else:
        text = "".join(traceback.format_exception(kind, error, trace))
        print(redact(text), end="", file=sys.stderr, flush=True)


def end_of(step: str, error: BaseException) -> End:
    """Return kind and reason of the end that an exception causes, without a traceback."""
    kind: Kind = "crash"
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, ResourceUnavailable | ServiceUnavailable):
        kind, reason = "outage", str(error)
    elif isinstance(error, InputError):
        kind, reason = "input", f"the input is wrong: {error}"
    elif isinstance(error, KeyboardInterrupt) or (
        isinstance(error, SystemExit) and error.code == _STOPPED
    ):
        kind, reason = "stopped", "asked to stop (SIGTERM)"
    elif isinstance(error, MemoryError):
        kind = "memory"
    return End(step, kind, reason)
