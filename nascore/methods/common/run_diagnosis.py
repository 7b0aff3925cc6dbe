"""Contract of `nas diagnose` with a method: what it is given of a run, and what it returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nascore.methods.common.method_options import MethodOptions

if TYPE_CHECKING:
    from nascore.context import SearchContext
    from nascore.spaces.base import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedTable:
    """Accuracies of architectures that were trained separately.

    Attributes:
        space: space of the architectures, with all its operations.
        name: file name of the table.
        column: column of the accuracies.
        accuracies: accuracy by the tokens of an architecture.
    """

    space: "SearchSpace"
    name: str
    column: str
    accuracies: Mapping[tuple[int, ...], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchedRun:
    """A run whose search has started.

    Attributes:
        method: name of the method.
        source: source of the data.
        state: state folder of the search.
        arms: `method`, and `control` if the run has one.
        history: metrics that the search has reported, by name, as (step, value).
        open_context: opens the context of the search, which needs the run's data.
    """

    method: str
    source: str
    seed: int
    space: "SearchSpace"
    options: MethodOptions
    state: Path
    arms: tuple[str, ...]
    history: Mapping[str, Sequence[tuple[int, float]]]
    open_context: Callable[[], "SearchContext"]


@dataclass(frozen=True, slots=True)
class DiagnosisReport:
    """Result of a diagnosis.

    Attributes:
        lines: summary for a terminal.
        page: one HTML document.
        document: the same as JSON.
    """

    lines: tuple[str, ...]
    page: str
    document: Mapping[str, Any]


class DiagnosisModule(Protocol):
    """Module that `nascore.methods.base.Method.diagnosis` names."""

    def diagnose_run(self, run: SearchedRun, table: TrainedTable | None) -> DiagnosisReport:
        """Examine the search of a run; the shared weights too if there is a table.

        Raises:
            InputError: the search has saved nothing yet, a file is damaged, or the table has too
                few of the architectures.
        """
        ...
