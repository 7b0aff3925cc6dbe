"""`nas bench suggest`: time of a suggestion of each proposer and of Optuna's TPE."""

import json
from typing import Any

import click

from nascore.errors import InputError
from pipelines.commands.options import one_message


@click.command("suggest")
@click.option("--methods", metavar="A,B,...", help="Proposing methods [all].")
@click.option(
    "--trials",
    default="1000,10000",
    show_default=True,
    metavar="N,N,...",
    help="Numbers of earlier trials.",
)
@click.option(
    "--spaces",
    default="nasbench201,chain",
    show_default=True,
    metavar="A,B",
    help="Search spaces.",
)
@click.option(
    "--repeats",
    default=20,
    show_default=True,
    type=click.IntRange(min=1),
    help="Number of timed suggestions.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@one_message
def suggest(methods: str | None, trials: str, spaces: str, repeats: int, as_json: bool) -> None:
    """Time a suggestion of each method and of Optuna's TPE after many trials."""
    from nascore.tabular_benchmark.suggesting import METHODS, SPACES, measure

    names = _chosen("--methods", methods or ",".join(METHODS), METHODS)
    wanted = _chosen("--spaces", spaces, SPACES)
    counts = [_count(text) for text in trials.split(",")]
    rows = []
    for space in wanted:
        for count in counts:
            for method in names:
                rows.append(measure(method, space, count, repeats=repeats))
                if not as_json:
                    _print(rows)
    if as_json:
        click.echo(json.dumps(rows))


def _chosen(option: str, text: str, known: Any) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        raise InputError.of(option, ",".join(wrong), f"choose of {', '.join(known)}")
    return names


def _count(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise InputError.of("--trials", text, "must be whole numbers of 1 or more, such as 1000")
    return int(text)


def _print(rows: list[dict[str, Any]]) -> None:
    if len(rows) == 1:
        click.echo(f"{'method':<24}{'space':<14}{'trials':>8}{'p50 ms':>10}")
    row = rows[-1]
    click.echo(f"{row['method']:<24}{row['space']:<14}{row['trials']:>8}{row['p50_ms']:>10.2f}")
