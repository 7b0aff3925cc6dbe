"""Reading tables, replaying them, and what is made of the figures."""

import csv
import gzip
import itertools
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from nascore.errors import GenotypeNotInSpace, InputError
from nascore.genotype import Genotype
from nascore.methods.baselines.options import RandomOptions
from nascore.methods.registry import METHODS
from nascore.results import Child
from nascore.search.proposer import NONE_PENDING, Pending
from nascore.spaces.base import ImageShape
from nascore.tabular_benchmark import bench, replay, writing
from nascore.tabular_benchmark.replay import MethodSettings, Outcome, Replay, ReplayPlan
from nascore.tabular_benchmark.space import CategoricalSpace
from nascore.tabular_benchmark.statistics import (
    holm,
    interval,
    paired_tests,
    permutation_p,
    summary,
)
from nascore.tabular_benchmark.table import Table, read_table

NB201 = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"


def write_csv(
    path: Path, rows: Sequence[Sequence[object]], header: str = "arch,valid,test"
) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def small_rows() -> list[tuple[str, float, float]]:
    """Three decisions of three values: valid rewards high letters, test has a twist."""
    return [
        ("".join(letters), 10 * sum("abc".index(x) for x in letters), 90.0 + i / 27)
        for i, letters in enumerate(itertools.product("abc", repeat=3))
    ]


def read(
    path: Path, space: str = "categorical", search: str = "valid", report: str = "test"
) -> Table:
    return read_table(path, space, search_metric=search, report_metric=report, arch_column="arch")


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return read(write_csv(tmp_path / "table.csv", small_rows()))


def problems_of(error: pytest.ExceptionInfo[InputError]) -> list[tuple[str, str]]:
    return [(problem.key, problem.value) for problem in error.value.problems]


# --- tables ---------------------------------------------------------------------------------


def test_a_categorical_table_gives_its_space(table: Table) -> None:
    assert table.space.cardinalities == (3, 3, 3)
    assert len(table.rows) == 27
    assert table.coverage == 1
    assert table.rows[(0, 0, 0)] == (0, 90)
    assert table.rows[(2, 2, 2)] == (60, 90 + 26 / 27)


def test_an_alphabet_belongs_to_its_position(tmp_path: Path) -> None:
    made = read(write_csv(tmp_path / "t.csv", [("0x1", 1, 1), ("1x1", 2, 2), ("1x3", 3, 3)]))
    assert made.space.cardinalities == (2, 1, 2)
    assert made.coverage == 3 / 4
    assert (0, 0, 1) not in made.rows


def test_gzip_a_byte_order_mark_and_more_columns_change_nothing(
    tmp_path: Path, table: Table
) -> None:
    path = write_csv(
        tmp_path / "more.csv", [(*row, 1, "x") for row in small_rows()], "arch,valid,test,id,note"
    )
    marked = tmp_path / "marked.csv.gz"
    marked.write_bytes(gzip.compress(b"\xef\xbb\xbf" + path.read_bytes()))
    assert read(marked).rows == table.rows


def test_nasbench201_reads_the_benchmarks_strings(tmp_path: Path) -> None:
    one = NB201.format(*["none"] * 5, "skip_connect")
    two = NB201.format("nor_conv_3x3", *["none"] * 5)
    made = read(write_csv(tmp_path / "t.csv", [(one, 0.1, 0.2), (two, 0.3, 0.4)]), "nasbench201")
    assert made.rows == {(0, 0, 0, 0, 0, 1): (0.1, 0.2), (3, 0, 0, 0, 0, 0): (0.3, 0.4)}
    assert made.coverage == 2 / 5**6


def test_percents_become_fractions_and_fractions_stay(tmp_path: Path, table: Table) -> None:
    assert table.scale == 0.01
    made = read(write_csv(tmp_path / "t.csv", [("a", 0.5, 1), ("b", 1.0, 2)]))
    assert made.scale == 1


def test_all_that_is_wrong_with_a_table_is_told_at_once(tmp_path: Path) -> None:
    rows = [
        ("ab", 1, 2),
        ("abc", 1, 2),  # line 3: too long
        ("ba", "n/a", 2),  # line 4
        ("bb", 1, "nan"),  # line 5
        ("ab", 1, 2),  # line 6: as line 2
        ("aa", 1),  # line 7: a cell is missing
    ]
    path = write_csv(tmp_path / "t.csv", rows)
    with pytest.raises(InputError) as error:
        read(path)
    assert problems_of(error) == [
        ("t.csv line 7", ""),
        ("t.csv line 4, column valid", "'n/a'"),
        ("t.csv line 5, column test", "'nan'"),
        ("t.csv line 3, column arch", "'abc'"),
        ("t.csv line 6, column arch", "'ab'"),
    ]
    assert "line 2" in error.value.problems[-1].message


def test_many_problems_of_one_kind_are_counted(tmp_path: Path) -> None:
    rows = [(f"{i:03}", "bad", i) for i in range(100)]
    with pytest.raises(InputError) as error:
        read(write_csv(tmp_path / "t.csv", rows))
    assert len(error.value.problems) == 5
    assert error.value.problems[-1].message.endswith("(and 95 more rows like it)")


def test_missing_columns_are_told_together_with_what_is_meant(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", small_rows())
    with pytest.raises(InputError) as error:
        read(path, search="valids", report="accuracy")
    assert [str(problem) for problem in error.value.problems] == [
        "--search-metric = valids: the table has no such column; did you mean 'valid'?",
        "--report-metric = accuracy: the table has no such column; it has arch, valid, test",
    ]


def test_a_column_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", [("a", 1, 1), ("b", 2, 2)], "arch,valid,valid")
    with pytest.raises(InputError, match="2 columns of this name"):
        read(path, report="valid")


def test_a_table_of_another_space_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", small_rows())
    with pytest.raises(InputError, match="does not fit --space nasbench201"):
        read(path, "nasbench201")
    with pytest.raises(InputError, match="must be one of nasbench201, categorical"):
        read(path, "darts")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no such column"),
        (b"arch,valid,test\n", "two architectures or more, has 0"),
        (b"arch,valid,test\na,1,1\n", "two architectures or more, has 1"),
        (gzip.compress(b"arch,valid,test\n" * 50, mtime=0)[:-12], "damaged gzip"),
        (b"arch,valid,test\n\xff\xfe,1,1\n", "no CSV text in UTF-8"),
        (b'arch,valid,test\n"a"b,1,1\n', "no CSV text in UTF-8"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        read(tmp_path / "nothing.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path)


def test_the_space_of_a_table_refuses_what_is_not_in_it() -> None:
    space = CategoricalSpace.of(["ax", "by"])
    assert space.parse("bx").tokens == (1, 0)
    assert space.describe(space.parse("bx")) == space.canonical(space.parse("bx")) == "bx"
    for text in ("cx", "a", "axx"):
        with pytest.raises(GenotypeNotInSpace):
            space.parse(text)
    assert space.identifier != CategoricalSpace.of(["ax", "bz"]).identifier
    with pytest.raises(GenotypeNotInSpace, match="table only"):
        space.build(space.parse("ax"), ImageShape(1, 8, 10))


# --- replay ---------------------------------------------------------------------------------


class Script:
    """Proposes what it is told to, over and over, and keeps what it hears."""

    def __init__(self, space: CategoricalSpace, texts: Sequence[str]) -> None:
        self.genotypes = [space.parse(text) for text in texts]
        self.heard: list[Child] = []

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        return self.genotypes[number % len(self.genotypes)]

    def update(self, child: Child) -> None:
        self.heard.append(child)


def play(
    table: Table, texts: Sequence[str], *, queries: int, most: int = 100
) -> tuple[Script, Replay]:
    assert isinstance(table.space, CategoricalSpace)
    script = Script(table.space, texts)
    return script, replay.replay(script, table, queries=queries, max_proposals=most)


def test_what_was_asked_before_is_told_again_and_costs_nothing(table: Table) -> None:
    script, found = play(table, ["aab", "aab", "aac", "aab", "aaa"], queries=3)
    assert (found.num_queries, found.num_proposals) == (3, 5)
    assert [child.objective for child in script.heard] == [0.1, 0.1, 0.2, 0.1, 0.0]
    assert [child.number for child in script.heard] == [0, 1, 2, 3, 4]


def test_the_best_by_search_metric_is_reported_by_report_metric(table: Table) -> None:
    # valid: 10, 20, 20, 0; test: 90 + 9/27, 90 + 18/27, 90 + 2/27; the first of equals stays.
    _, found = play(table, ["baa", "caa", "aac", "aaa"], queries=4)
    assert found.curve.tolist() == [90 + 9 / 27, 90 + 18 / 27, 90 + 18 / 27, 90 + 18 / 27]


def test_what_the_table_does_not_hold_is_a_failed_child_at_no_cost(tmp_path: Path) -> None:
    table = read(write_csv(tmp_path / "t.csv", [("aa", 1, 5), ("bb", 2, 6)]))
    script, found = play(table, ["ab", "aa", "ba", "bb"], queries=2)
    assert found.num_queries == 2
    assert found.curve.tolist() == [5, 6]
    assert [child.objective for child in script.heard] == [None, 0.01, None, 0.02]
    assert script.heard[0].failure == "the table does not hold it"


def test_a_search_that_has_run_dry_ends_with_what_it_has(table: Table) -> None:
    _, found = play(table, ["aab", "aac"], queries=5, most=30)
    assert (found.num_queries, found.num_proposals) == (2, 30)
    assert found.curve.tolist() == [90 + 1 / 27, *[90 + 2 / 27] * 4]


def entries(*methods: str) -> tuple[MethodSettings, ...]:
    return tuple(MethodSettings(method, method, METHODS[method].options()) for method in methods)


def test_processes_find_what_one_process_finds(table: Table) -> None:
    plan = ReplayPlan(table, entries("random", "local-search"), 10, range(3, 15))
    done: list[tuple[str, int]] = []
    here = bench.run(plan, jobs=1)
    there = bench.run(plan, jobs=2, progress=lambda label, count: done.append((label, count)))
    for one, other in zip(here, there, strict=True):
        assert one.entry == other.entry
        assert np.array_equal(one.curves, other.curves)
        assert one.curves.shape == (12, 10)
    assert sum(count for label, count in done if label == "random") == 12
    assert not np.array_equal(here[0].curves[0], here[0].curves[1]), "seeds differ"


def test_other_seeds_are_other_searches(table: Table) -> None:
    first, second = (
        bench.run(ReplayPlan(table, entries("random"), 10, seeds), jobs=1)[0].curves
        for seeds in (range(4), range(2, 6))
    )
    assert np.array_equal(first[2:], second[:2])


def test_verdicts_are_those_of_a_run_and_chance_is_seldom_called_better(tmp_path: Path) -> None:
    """Random search against random search, 100 times: at most 5 % by design, here 2 of 100."""
    rows = [
        ("".join(letters), 50 + sum("abc".index(one) * (i + 2) for i, one in enumerate(letters)), 0)
        for letters in itertools.product("abc", repeat=6)
    ]
    table = read(write_csv(tmp_path / "rows.csv", rows))
    plan = ReplayPlan(table, entries("random", "local-search"), 30, range(100), with_verdicts=True)
    chance, climber = (summary(outcome)["verdicts"] for outcome in bench.run(plan, jobs=1))
    assert sum(chance.values()) == pytest.approx(1)
    assert chance["better"] <= 0.05
    assert climber["better"] > 0.3
    assert "called better" in writing.markdown(writing.document(plan, bench.run(plan, jobs=1)[:1]))
    without = bench.run(ReplayPlan(table, entries("random"), 30, range(2)), jobs=1)
    assert "verdicts" not in summary(without[0])


def test_more_queries_than_architectures_are_refused(table: Table) -> None:
    with pytest.raises(InputError, match="--queries = 28: must be 1 to 27"):
        bench.run(ReplayPlan(table, entries("random"), 28, range(2)), jobs=1)


def test_every_architecture_may_be_asked_for(table: Table) -> None:
    for outcome in bench.run(
        ReplayPlan(table, entries("random", "local-search"), 27, range(3)), jobs=1
    ):
        assert [one.num_queries for one in outcome.replays] == [27] * 3
        assert (outcome.curves[:, -1] == 90 + 26 / 27).all()


def test_a_table_in_which_nothing_is_found_is_refused(tmp_path: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    path = write_csv(tmp_path / "t.csv", [(letter * 8, i, i) for i, letter in enumerate(letters)])
    with pytest.raises(InputError, match="random has found none of its architectures in 2000"):
        bench.run(ReplayPlan(read(path), entries("random"), 1, range(1)), jobs=1)


# --- figures --------------------------------------------------------------------------------


def outcome_of(label: str, curves: Sequence[Sequence[float]]) -> Outcome:
    replays = [Replay(np.array(curve), len(curve), 2 * len(curve), 0.5) for curve in curves]
    return Outcome(MethodSettings(label, "random", RandomOptions()), tuple(replays), 1.5)


def test_the_summary_of_one_method_by_hand() -> None:
    curves = [[50.0] * 24 + [60.0] * 6 + [value] for value in (1.0, 2.0, 3.0, 6.0)]
    made = summary(outcome_of("mine", curves))
    assert made["mean"] == 3
    assert made["median"] == 2.5
    assert made["std"] == pytest.approx(math.sqrt(14 / 3))
    half = 3.182446 * math.sqrt(14 / 3) / 2  # Student's t with 3 degrees of freedom, 97.5 %
    assert made["ci95"] == pytest.approx([3 - half, 3 + half])
    assert made["curve"] == {"25": 60, "31": 3}
    assert made["seconds_per_suggestion"] == pytest.approx(0.5 / 62)
    assert made["pretrain_seconds"] == 1.5
    assert (made["queries"], made["proposals"]) == (31, 62)
    assert made["values"] == [1, 2, 3, 6]


def test_the_curve_has_the_four_points_and_the_end() -> None:
    made = summary(outcome_of("mine", [list(map(float, range(1, 201)))] * 2))
    assert made["curve"] == {"25": 25, "50": 50, "100": 100, "200": 200}


def test_one_seed_has_no_spread() -> None:
    made = summary(outcome_of("mine", [[1.0]]))
    assert (made["std"], made["ci95"]) == (None, None)
    assert interval(np.array([1.0])) is None


def test_the_permutation_test_by_hand() -> None:
    # Of the eight signs of three differences, all plus and all minus are as extreme.
    assert permutation_p(np.array([1.0, 2.0, 3.0])) == pytest.approx(2 / 8)
    # Sums of the signed 3, 2, 1: 6, 4, 2, 0, 0, -2, -4, -6; all but the two 0 are as extreme as 2.
    assert permutation_p(np.array([3.0, -2.0, 1.0])) == pytest.approx(6 / 8)
    assert permutation_p(np.zeros(10)) == 1
    assert permutation_p(np.array([5.0])) == 1
    many = np.random.default_rng(0).normal(1, 1, 200)
    assert permutation_p(many) == pytest.approx(2 / 20_000), "counts what was observed; never 0"


def test_the_permutation_test_rarely_errs_where_there_is_no_difference() -> None:
    rng = np.random.default_rng(0)
    claims = [permutation_p(rng.normal(0, 1, 8)) <= 0.05 for _ in range(150)]
    assert np.mean(claims) < 0.11  # binomial: above it once in two thousand times


def test_holm_by_hand() -> None:
    # Ascending .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04, and never less than the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_every_method_is_tested_against_every_baseline_but_itself() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(90, 1, (20, 1))
    outcomes = [
        outcome_of("mine", (base + 1).tolist()),
        outcome_of("random", base.tolist()),
        outcome_of("tpe", rng.normal(90, 1, (20, 1)).tolist()),
    ]
    tests = {(test["method"], test["against"]): test for test in paired_tests(outcomes)}
    assert set(tests) == {
        ("mine", "random"), ("mine", "tpe"), ("random", "tpe"), ("tpe", "random"),
    }  # fmt: skip
    paired = tests["mine", "random"]
    assert paired["difference"] == pytest.approx(1)
    assert paired["p"] == pytest.approx(1e-4)
    assert paired["p_corrected"] == pytest.approx(3e-4), "three pairs: two baselines are one test"
    one, other = tests["random", "tpe"], tests["tpe", "random"]
    assert one["difference"] == -other["difference"]
    assert one["p"] == other["p"]
    assert one["p_corrected"] == other["p_corrected"]


# --- files ----------------------------------------------------------------------------------


def test_the_files_hold_what_was_found(table: Table, tmp_path: Path) -> None:
    plan = ReplayPlan(table, entries("random", "local-search"), 20, range(5))
    outcomes = bench.run(plan, jobs=1)
    made = writing.document(plan, outcomes)
    assert made["version"] == 1
    assert made["table"]["rows"] == 27
    assert [one["method"] for one in made["results"]] == ["random", "local-search"]
    writing.write(tmp_path / "new" / "folder", made, outcomes)
    folder = tmp_path / "new" / "folder"
    assert json.loads((folder / "bench.json").read_text()) == made
    lines = (folder / "bench.md").read_text().splitlines()
    row = next(line for line in lines if line.startswith("| local-search |"))
    assert f"| {made['results'][1]['curve']['20']:.2f} |" in row
    drawing = ElementTree.parse(folder / "bench.svg").getroot()
    means = drawing.findall(".//{*}g[@class='mean']/{*}path")
    assert [len(re.findall("[ML]", path.attrib["d"])) for path in means] == [20, 20]
    assert "local-search" in drawing.attrib["aria-label"]


def test_one_seed_one_query_one_value_can_be_written(tmp_path: Path) -> None:
    table = read(write_csv(tmp_path / "t.csv", [("a", 1, 1), ("b", 1, 1)]))
    plan = ReplayPlan(table, entries("random"), 1, range(1))
    outcomes = bench.run(plan, jobs=1)
    writing.write(tmp_path / "out", writing.document(plan, outcomes), outcomes)
    assert "–" in (tmp_path / "out" / "bench.md").read_text()


# --- the real table -------------------------------------------------------------------------


def test_baselines_on_the_real_table(offline_data: Path) -> None:
    path = offline_data / "nasbench201_cifar10.csv.gz"
    table = read_table(path, "nasbench201", search_metric="c10_valid", report_metric="c10_test")
    assert table.coverage == 1
    methods = ("random", "regularized-evolution", "local-search")
    outcomes = bench.run(ReplayPlan(table, entries(*methods), 100, range(10)), jobs=1)
    means = [summary(outcome)["mean"] for outcome in outcomes]
    # Known means of many seeds; of 10 seeds, a standard error is 0.07 to 0.1.
    assert means == pytest.approx([93.81, 94.11, 94.28], abs=0.35)
    assert means[0] < means[1] < means[2]
