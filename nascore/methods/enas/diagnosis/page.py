"""The report of a diagnosis, as HTML and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nascore.figures import formatting, plots
from nascore.figures.chart import Chart
from nascore.figures.plots import Line
from nascore.figures.templates import make_environment
from nascore.methods.enas.diagnosis.conditioning import mean
from nascore.methods.enas.diagnosis.correlation import Correlation, Interval, RankCorrelation
from nascore.methods.enas.diagnosis.diagnosis import Diagnosis
from nascore.methods.enas.diagnosis.probes import NOISE, TokenProbe

VERSION = 1
History = Mapping[str, Sequence[tuple[int, float]]]
"""Metrics by name, each as (number of the update, value) in that order."""

_POSITION = "position of the token"
_UPDATE = "updates of the controller"
_DASHED, _DOTTED = (2.4, 1.6), (0.8, 1.6)
_FOLLOWED = (  # the course of the search: metric, heading, axis
    ("policy/method/reward", "Reward", "mean reward"),
    ("policy/method/entropy", "Entropy", "entropy of the policy, nats"),
    ("diagnosis/spearman_edit", "State and graph", "Spearman correlation"),
    ("diagnosis/probe_first_token_noisy", "First token", "accuracy of the noisy probe"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Content of the report about one run.

    Attributes:
        now: diagnosis of the controller at the end of the search.
        initial: diagnosis of the same controller with its initial weights.
        shared_weights: by arm, correlation of the accuracy with shared weights with that of
            networks trained alone; empty without a table.
        table: name and column of that table.
        history: metrics of the search; those that the page does not show are in the JSON too.
    """

    method: str
    source: str
    seed: int
    now: Diagnosis
    initial: Diagnosis
    shared_weights: Mapping[str, RankCorrelation] = field(default_factory=dict)
    table: Mapping[str, str] | None = None
    history: History = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the content as JSON."""
        return {
            "version": VERSION,
            "method": self.method,
            "source": self.source,
            "seed": self.seed,
            "now": self.now.to_dict(),
            "initial": self.initial.to_dict(),
            "shared_weights": {arm: asdict(one) for arm, one in self.shared_weights.items()},
            "table": None if self.table is None else dict(self.table),
            "history": {name: list(points) for name, points in self.history.items()},
        }


def render(findings: Findings) -> str:
    """Return the report as one HTML document without scripts and external resources."""
    environment = make_environment(__package__, number=number, interval=interval)
    return environment.get_template("page.html.j2").render(
        findings=findings,
        now=findings.now,
        initial=findings.initial,
        num_pairs=findings.now.num_compared * (findings.now.num_compared - 1) // 2,
        tiles=headline(findings),
        scatters=[
            _scatter(findings.now, "method"),
            _scatter(findings.initial, "control"),
        ],
        probes=[
            _probes(findings.now.token_probes, findings.initial.token_probes),
            _probes(findings.now.noisy_token_probes, findings.initial.noisy_token_probes),
        ],
        noise=NOISE,
        conditioning=_conditioning(findings),
        course=_course(findings.history),
    )


def headline(findings: Findings) -> list[dict[str, str]]:
    """Return the key figures: label, value, and a reference to compare with."""
    now, initial = findings.now, findings.initial
    edit, was = _edit(now), _edit(initial)
    first, first_was = now.noisy_token_probes[0], initial.noisy_token_probes[0]
    kl, kl_was = mean(now.conditioning.mean_kl), mean(initial.conditioning.mean_kl)
    same = now.same_start["edit"]
    shared = findings.shared_weights.get("method")
    return [
        _tile(
            "State and graph",
            number(None if edit is None else edit.spearman),
            f"Spearman, {interval(None if edit is None else edit.interval)}; initial weights "
            f"{number(None if was is None else was.spearman)}",
        ),
        _tile(
            "First token",
            formatting.percent(first.accuracy, 1),
            f"predicted from the noisy state; chance {formatting.percent(first.chance, 1)}, "
            f"initial weights {formatting.percent(first_was.accuracy, 1)}",
        ),
        _tile("Conditioning", number(kl), f"nats, mean KL; initial weights {number(kl_was)}"),
        _tile(
            "Same state",
            number(same.difference),
            f"edits more alike, {interval(same.interval)}; of {number(same.between)}",
        ),
        _tile(
            "Shared weights",
            number(None if shared is None else shared.spearman),
            "no table was given"
            if shared is None
            else f"Spearman with the table, {interval(shared.interval)}",
        ),
    ]


def number(value: float | None) -> str:
    """Format a number with three digits."""
    if value is None:
        return formatting.MISSING
    return f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:.3g}"


def interval(ends: Interval | None) -> str:
    """Format an interval."""
    return formatting.MISSING if ends is None else f"{number(ends[0])} to {number(ends[1])}"


def _tile(label: str, value: str, note: str) -> dict[str, str]:
    return {"label": label, "value": "–" if value == formatting.MISSING else value, "note": note}


def _edit(diagnosis: Diagnosis) -> Correlation | None:
    return diagnosis.correlations["euclidean"]["edit"]


# --- figures --------------------------------------------------------------------------------


def _scatter(diagnosis: Diagnosis, colour: str) -> Chart:
    return plots.scatter(
        diagnosis.pairs, colour=colour, x_label="edit distance", y_label="distance of states"
    )


def _probes(now: Sequence[TokenProbe], initial: Sequence[TokenProbe]) -> Chart:
    series = [
        Line("now", "method", _by_position([probe.accuracy for probe in now]), has_dots=True),
        Line(
            "initial weights",
            "control",
            _by_position([probe.accuracy for probe in initial]),
            _DASHED,
        ),
        Line("chance", "overhead", _by_position([probe.chance for probe in now]), _DOTTED),
    ]
    return plots.lines(series, x_label=_POSITION, y_label="accuracy")


def _conditioning(findings: Findings) -> Chart:
    now, initial = findings.now.conditioning, findings.initial.conditioning
    series = [
        Line("now", "method", _by_position(now.mean_kl), has_dots=True),
        Line("beyond the last token", "control", _by_position(now.mean_kl_beyond_last), _DASHED),
        Line("initial weights", "overhead", _by_position(initial.mean_kl), _DOTTED),
    ]
    return plots.lines(series, x_label=_POSITION, y_label="mean KL, nats")


def _by_position(values: Sequence[float | None]) -> list[tuple[float, float]]:
    """Return the points of a line; positions count from 1."""
    return [(float(t), value) for t, value in enumerate(values, start=1) if value is not None]


def _course(history: History) -> list[dict[str, Any]]:
    """Return a chart for each metric that was recorded more than once."""
    return [
        {
            "heading": heading,
            "chart": plots.lines(
                [Line(heading, "method", history[name])],
                x_label=_UPDATE,
                y_label=axis,
                starts_at_zero=False,
            ),
        }
        for name, heading, axis in _FOLLOWED
        if len(history.get(name, ())) > 1
    ]
