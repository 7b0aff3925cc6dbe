"""Log of a step's pod without the lines of Argo, KFP's launcher and KFP's executor."""

import json
import re
from dataclasses import dataclass

_ARGO = re.compile(r"time=\S+ level=\w+ .*\bargo=true\b")
_LAUNCHER = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [\w./-]+:\d+\] ")
_EXECUTOR = "[KFP Executor "
_INPUT = "Got executor_input:"
_SUCCESS = re.compile(r"\] publish success\.$", re.MULTILINE)
_LAUNCHER_END = re.compile(r"^F\d{4} .*?\] (?P<why>.+)$", re.MULTILINE)
_ERROR = '{"error_message":'


@dataclass(frozen=True, slots=True)
class PodLog:
    """Log of a pod as KFP returns it.

    Attributes:
        text: the log; empty if there is none.
        error: why it is missing or incomplete; KFP appends that to the log.
    """

    text: str
    error: str = ""

    @classmethod
    def of(cls, answer: str) -> "PodLog":
        """Split the answer of KFP into log and error."""
        text, mark, rest = answer.rpartition(_ERROR)
        if not mark:
            return cls(answer)
        try:
            error = json.loads(mark + rest)["error_message"]
        except (ValueError, KeyError, TypeError):
            return cls(answer)
        return cls(text, str(error) or "no reason given")

    @property
    def has_succeeded(self) -> bool:
        """Whether KFP's launcher has published the outputs of the step."""
        return _SUCCESS.search(self.text) is not None

    @property
    def launcher_error(self) -> str:
        """Error with which KFP's launcher ended the pod; empty if it did not."""
        found = [match.group("why") for match in _LAUNCHER_END.finditer(self.text)]
        return found[-1] if found else ""

    def own_lines(self) -> list[str]:
        """Return the lines that the step has written itself."""
        filter_ = OwnLines()
        return [line for line in self.text.splitlines() if filter_.is_own(line)]


class OwnLines:
    """Separates the lines of a step from those of KFP and Argo, line by line."""

    def __init__(self) -> None:
        self._expects_json = self._is_in_json = False

    def is_own(self, line: str) -> bool:
        """Return whether the step has written the next line itself."""
        if self._is_in_json:
            self._is_in_json = line != "}"
            return False
        if self._expects_json and line.startswith("{"):
            self._expects_json = False
            self._is_in_json = not line.endswith("}")
            return False
        was_expected, self._expects_json = self._expects_json, False
        if _ARGO.match(line):
            return False
        if line.startswith(_EXECUTOR) or _LAUNCHER.match(line):
            self._expects_json = line.endswith(_INPUT)
            self._is_in_json = line.endswith("{")
            return False
        return not (was_expected and not line)
