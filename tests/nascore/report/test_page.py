import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import children
import numpy as np
import pytest
import yaml

from nascore.evaluation.class_metrics import class_figures
from nascore.evaluation.verdict import compare
from nascore.figures import formatting
from nascore.genotype import Genotype
from nascore.report import Report, classes, render
from nascore.results import Arm, Child, SearchResult

EVIL = "<script>alert('x')</script>&\"quoted\""


def make_child(number: int, accuracy: float | None) -> Child:
    genotype = Genotype("chain-1x4-v8", (number % 8, number // 8 % 8, number // 64 % 8, 0))
    if accuracy is None:
        return children.make_child(number, genotype, None, failure="the loss is not finite")
    return children.make_child(number, genotype, accuracy, started_s=0.0, ended_s=2.5, num_steps=9)


def make_arm(method: str, accuracies: list[float | None], seconds: float = 60.0) -> Arm:
    children = tuple(make_child(number, value) for number, value in enumerate(accuracies))
    return Arm(method, children, seconds)


def make_report(**changes: Any) -> Report:
    """A complete report of a small search: 16 children an arm, two of the method's failed."""
    random = np.random.default_rng(0)
    accuracies: list[float | None] = random.uniform(0.8, 0.95, 16).round(4).tolist()
    accuracies[2] = accuracies[7] = None
    accuracies[9] = 0.9712
    arm = make_arm("nases", accuracies)
    control = make_arm("random", random.uniform(0.8, 0.95, 16).round(4).tolist())
    verdict = compare(
        [child.valid_accuracy for child in arm.children],
        [child.valid_accuracy for child in control.children],
        rng=random,
    )
    search = SearchResult(
        method="nases",
        seed=7,
        genotype=arm.children[9].genotype,
        valid_accuracy=0.9712,
        arm=arm,
        control=control,
        verdict=verdict.to_dict(),
        versions={"torch": "2.14.1"},
    )
    report = Report(
        result={
            "test_accuracy": 0.9806,
            "valid_accuracy": 0.9815,
            "num_params": 45322,
            "macs": 3421222,
            "model_uri": "models:/nases/3",
            "tracking_run_id": "run-5e4b",
        },
        search=search,
        describe=lambda genotype: f"layer of {genotype.tokens[0]}",
        architecture_svg='<svg viewBox="0 0 90 30" width="90"><rect width="80" height="20"/></svg>',
        config={"method": "nases", "latency": {"target_ms": 2.0}, "search": {"control": True}},
        dataset={
            "source": "npz:/data/flowers.npz",
            "classes": ("rose", "tulip"),
            "channels": 3,
            "size": 32,
            "num_images": 5000,
            "num_train": 3400,
            "num_valid": 600,
            "num_test": 1000,
            "data_sha256": "ab" * 32,
            "split_sha256": "cd" * 32,
            "class_counts": {"train": [1701, 1699], "valid": [300, 300], "test": [500, 500]},
            "streamed": False,
        },
        latency={
            "p50_ms": 0.8123,
            "p95_ms": 1.204,
            "mean_ms": 0.861,
            "std_ms": 0.113,
            "min_ms": 0.772,
            "batch_size": 4,
            "device": "a certain CPU",
            "threads": 2,
            "runs": 200,
            "warmup_runs": 21,
            "torch_version": "2.14.1",
            "date": "2026-01-02T03:04:05+00:00",
        },
        step_seconds={"prepare_data": 2.0, "search": 122.0},
        step_busy={"prepare_data": {"data": 1.5}, "search": {"training": 117.0}},
        command="nas run --preset quick",
    )
    return dataclasses.replace(report, **changes)


def without_control(report: Report) -> SearchResult:
    return dataclasses.replace(report.search, control=None, verdict=None)


class Page(HTMLParser):
    """Elements with their attributes, and text; fails on tags that do not match."""

    VOID = ("meta", "link", "br", "img", "hr", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice in {tag}: {names}"
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def tagged(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


# --- the page -------------------------------------------------------------------------------


def test_nothing_is_loaded_and_nothing_runs() -> None:
    html = render(make_report())
    page = Page(html)
    assert not {"script", "iframe", "object", "embed", "img", "form"} & {
        t for t, _ in page.elements
    }
    for tag, attributes in page.elements:
        for name in ("src", "srcset", "href", "xlink:href", "data", "poster", "action"):
            value = attributes.get(name) or "data:,"
            assert value == "data:," or value.startswith("#"), (tag, name, "is not of this page")
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in html
    assert "@import" not in html
    policies = [meta for meta in page.tagged("meta") if meta.get("http-equiv")]
    assert "default-src 'none'" in (policies[0]["content"] or "")


def test_structure_is_valid_and_accessible() -> None:
    html = render(make_report())
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert page.tagged("html")[0]["lang"] == "en"
    assert len(page.tagged("h1")) == 1
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        assert attributes.get("aria-labelledby", ids[0]) in ids
    charts = [one for one in page.tagged("svg") if "chart" in (one.get("class") or "")]
    assert len(charts) == 3
    assert all(one["role"] == "img" and one["aria-label"] for one in charts)
    assert all("scope" in cell for cell in page.tagged("th"))


def test_all_numbers_are_there() -> None:
    report = make_report()
    page = Page(render(report))
    verdict = report.search.verdict
    assert verdict is not None
    low, high = formatting.wilson_interval(0.9806, 1000)
    expected = [
        "nases on flowers : 98.06% test accuracy",
        verdict["statement"],
        f"{verdict['difference'] * 100:+.2f} points",
        f"{verdict['interval'][0] * 100:+.2f} to {verdict['interval'][1] * 100:+.2f} points",
        f"p-value {verdict['p_value']:.2g}",
        "14 and 16",
        "2 and 0 failed",
        f"95% interval {low:.1%} to {high:.1%}",
        *("98.15%", "45,322", "3.42 M", "3,421,222", "97.12%"),
        *(
            "0.812 ms",
            "1.20 ms",
            "0.861 ms ± 0.113 ms",
            "0.772 ms",
            "Batch size 4",
            "a certain CPU",
        ),
        *("Warm-up runs 21", "Measured runs 200", "CPU threads 2", "2026-01-02T03:04:05+00:00"),
        "Within the target of 2.00 ms",
        *("2 min 04 s in the steps", "5.5 s of it overhead"),
        *("npz:/data/flowers.npz", "2: rose, tulip", "3,400", "600", "1,000", "1,701", "1,699"),
        *("ab" * 32, "cd" * 32, "Seed 7", "2.14.1", "nas run --preset quick"),
        *("models:/nases/3", "run-5e4b", "one run with one seed"),
    ]
    assert [text for text in expected if text not in page.text] == []


def test_configuration_reads_back() -> None:
    report = make_report()
    html = render(report)
    shown = re.findall(r"<pre[^>]*>(.*?)</pre>", html, flags=re.DOTALL)[-1]
    assert yaml.safe_load(shown) == report.config


def test_best_children_are_the_ten_best_in_order() -> None:
    report = make_report()
    rows = re.findall(r"layer of (\d)(?: <span class=\"tag\">)?", render(report))
    finished = sorted(
        (child for child in report.search.arm.children if child.scores),
        key=lambda child: (-(child.valid_accuracy or 0), child.number),
    )
    page = Page(render(report))
    table = page.text.partition("Best children")[2].partition("Verdict")[0]
    numbers = [int(row) for row in re.findall(r"(\d+) \d\d\.\d\d% layer", table)]
    assert numbers == [child.number + 1 for child in finished[:10]]
    assert table.count("chosen") == 1
    assert re.search(r"10 97\.12% layer of 1 chosen 1,009 2\.5 s", table)
    assert len(rows) > 10


def test_everything_is_escaped() -> None:
    report = make_report(command=EVIL, describe=lambda genotype: EVIL)
    dataset = {**(report.dataset or {}), "classes": (EVIL, "b"), "source": f"npz:{EVIL}"}
    failing = dataclasses.replace(report.search.arm.children[2], failure=EVIL)
    arm = dataclasses.replace(
        report.search.arm, method=EVIL, children=(failing, *report.search.arm.children)
    )
    verdict = {**(report.search.verdict or {}), "statement": EVIL, "statistic": EVIL}
    search = dataclasses.replace(
        report.search, method=EVIL, arm=arm, verdict=verdict, versions={EVIL: EVIL}
    )
    html = render(
        dataclasses.replace(
            report,
            search=search,
            dataset=dataset,
            config={EVIL: EVIL},
            latency={**(report.latency or {}), "device": EVIL},
            step_seconds={EVIL: 1.0},
            result={
                **report.result,
                "model_uri": EVIL,
                "promotion": {"alias": EVIL, "reason": EVIL},
            },
        )
    )
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 20
    assert not Page(html).tagged("script")


def test_why_the_model_was_promoted_or_not_is_shown() -> None:
    report = make_report()
    promotion = {"alias": "challenger", "reason": "a gain of -0.2, where any gain is enough"}
    html = render(dataclasses.replace(report, result={**report.result, "promotion": promotion}))
    assert "challenger: a gain of -0.2, where any gain is enough" in Page(html).text
    assert "Promotion" not in Page(render(report)).text


# --- what may be missing --------------------------------------------------------------------


def test_a_page_without_control_reports_it() -> None:
    report = make_report()
    html = render(dataclasses.replace(report, search=without_control(report)))
    text = Page(html).text
    assert "This run had no control" in text
    assert "The control was turned off" in text
    assert "interval-chart" not in html.partition("</style>")[2]
    assert "undecided whether" not in text


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("latency", "The latency of this model was not measured."),
        ("dataset", "The data set was not described."),
        ("config", "The configuration was not recorded."),
        ("command", "The command of this run was not recorded."),
        ("step_seconds", "The time of the steps was not recorded."),
        ("architecture_svg", "This architecture was not drawn."),
    ],
)
def test_a_missing_part_is_named(missing: str, sentence: str) -> None:
    assert sentence not in Page(render(make_report())).text
    assert sentence in Page(render(make_report(**{missing: None}))).text


def test_the_least_that_a_report_needs() -> None:
    report = make_report()
    text = Page(render(Report(result={}, search=without_control(report)))).text
    assert "nases on unnamed data" in text
    assert report.search.genotype.short_hash in text


def test_a_verdict_without_interval_is_shown_with_its_reason() -> None:
    report = make_report()
    verdict = compare([0.9, 0.8], [0.7], rng=np.random.default_rng(0)).to_dict()
    text = Page(
        render(
            dataclasses.replace(report, search=dataclasses.replace(report.search, verdict=verdict))
        )
    ).text
    assert "only 1 finished child" in text
    assert "too few children" in text


@pytest.mark.parametrize("outcome", ["better", "not better", "undecided"])
def test_the_badge_has_the_outcome(outcome: str) -> None:
    report = make_report()
    verdict = {**(report.search.verdict or {}), "outcome": outcome}
    search = dataclasses.replace(report.search, verdict=verdict)
    html = render(dataclasses.replace(report, search=search))
    kind = outcome.replace(" ", "-")
    assert html.count(f'<span class="badge {kind}">{outcome.capitalize()}</span>') == 2


def test_a_missed_latency_target_is_shown() -> None:
    config = {"latency": {"target_ms": 0.5}}
    assert "Above the target of 0.500 ms" in Page(render(make_report(config=config))).text


def test_a_drawing_that_is_no_svg_is_refused() -> None:
    with pytest.raises(ValueError, match="architecture_svg"):
        render(make_report(architecture_svg="<b>no</b>"))


# --- in a browser ---------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.slow
def test_the_page_in_a_real_browser(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(make_report()))
    for width in (1200, 500):
        browser.set_window_size(width, 900)
        browser.get(path.as_uri())
        assert "98.06% test accuracy" in browser.find_element("css selector", "h1").text
        assert browser.find_element("css selector", ".says .badge").is_displayed()
        drawings = browser.find_elements("css selector", "svg")
        assert len(drawings) == 4
        assert all(one.size["width"] > 50 and one.size["height"] > 20 for one in drawings)
        overflow = "return document.documentElement.scrollWidth - window.innerWidth"
        assert browser.execute_script(overflow) <= 0
    loaded = browser.execute_script("return performance.getEntriesByType('resource').length")
    assert loaded == 0
    assert browser.get_log("browser") == []


def test_splits_of_different_classes_are_shown_and_have_no_interval_of_images() -> None:
    plain = make_report()
    assert "classes of its own" not in render(plain)
    assert "covers the choice of 1,000 test images" in render(plain)
    own = {"train": [0, 3, 4], "valid": [1], "test": [2, 5]}
    page = render(
        dataclasses.replace(plain, dataset={**(plain.dataset or {}), "class_splits": own})
    )
    assert "3,400 images of 3 classes of its own: weights" in page
    assert "1,000 images of 2 classes of its own: used once" in page
    assert "covers the choice of" not in page


# --- classes --------------------------------------------------------------------------------


def class_figures_of(names: tuple[str, ...], labels: Any, predicted: Any) -> dict[str, Any]:
    logits = 4.0 * np.eye(len(names))[predicted]
    return dataclasses.asdict(class_figures(logits, np.array(labels), names))


def test_figures_of_classes_are_a_table_a_matrix_and_pairs_with_images() -> None:
    names = ("fine", EVIL, "dent")
    figures = class_figures_of(names, [0, 0, 0, 1, 1], [0, 0, 1, 1, 0])
    report = make_report()
    pixels = np.full((1, 4, 4), 7, np.uint8)
    result = {**report.result, **figures}
    html = render(dataclasses.replace(report, result=result, test_images={2: pixels}))
    page = Page(html)
    assert "fine 66.67% 66.67% 66.67% 3" in page.text
    assert "dent – – – 0" in page.text, "a class without images has no figures"
    assert EVIL not in html
    assert f"{(2 / 3 + 1 / 2) / 2:.2%}" in page.text
    assert html.count('alt="test image of') == 1, "only images that were given"
    assert classes.places(result) == [2, 4]
    assert "Confusion matrix of 3 classes" in html


def test_many_classes_are_the_worst_of_them_and_no_matrix() -> None:
    names = tuple(f"c{place:03d}" for place in range(150))
    labels = np.repeat(np.arange(150), 2)
    predicted = labels.copy()
    predicted[[298, 299]] = 0
    report = make_report()
    result = {**report.result, **class_figures_of(names, labels, predicted)}
    page = Page(render(dataclasses.replace(report, result=result)))
    assert "c149 0.00%" in page.text
    assert "c148 100.00%" not in page.text
    assert "A matrix of more than 30 classes is not drawn" in page.text


def test_a_network_without_fixed_classes_says_why_it_has_no_figures() -> None:
    report = make_report()
    none = {**report.result, "per_class": None, "confused": None}
    text = Page(render(dataclasses.replace(report, result=none))).text
    assert "A few-shot network has no metrics of classes" in text
    assert "Figures of classes were not recorded" in Page(render(report)).text


def test_another_objective_is_named_wherever_its_figures_stand() -> None:
    report = make_report()
    children = [
        dataclasses.replace(
            child, scores=dataclasses.replace(child.scores, valid_score=0.1 * number)
        )
        for number, child in enumerate(report.search.arm.children)
        if child.scores is not None
    ]
    search = dataclasses.replace(
        report.search,
        arm=dataclasses.replace(report.search.arm, children=tuple(children[:8])),
        objective="macro_f1",
        valid_score=0.7,
    )
    result = {**report.result, "test_score": 0.6543, "valid_score": 0.71}
    text = Page(render(dataclasses.replace(report, search=search, result=result))).text
    assert "Test macro F1 65.43%" in text
    assert "validation 71.00%, in the search 70.00%" in text
    assert "Validation macro F1 of every architecture" in text
    assert "Valid macro F1 Valid accuracy" in text
