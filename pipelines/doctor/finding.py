"""Result of one check of `nas doctor`."""

from dataclasses import asdict, dataclass
from typing import Literal

_KEYS = {"name": "check", "state": "status", "seen": "detail", "advice": "remedy"}


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of a check: name, state, observation, and advice if the state is not ok."""

    name: str
    state: Literal["ok", "warning", "problem"]
    seen: str
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return the row of `nas doctor --json`: `check`, `status`, `detail`, `remedy`."""
        return {_KEYS.get(name, name): value for name, value in asdict(self).items()}
