"""A figure as inline SVG and as a file."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from nascore.figures.chart import PALETTE, Chart, figure_of, make_axes


def make_chart(text: str = "one line", label: str = "a") -> Chart:
    axes = make_axes(200)
    axes.plot([1, 2, 3], [1, 4, 9], "o", color=PALETTE["method"], clip_on=False, gid="dots method")
    axes.set_xlabel(label)
    return Chart(figure_of(axes), "squares", text, {"dots method": ["1", "4 & 5", "9"]})


def test_the_same_chart_is_the_same_text_and_identifiers_differ_between_charts() -> None:
    first, second = make_chart().inline(), make_chart().inline()
    assert first == second
    other = ElementTree.fromstring(make_chart("another").inline())
    ids = {one.get("id") for one in ElementTree.fromstring(first).iter() if one.get("id")}
    assert ids
    assert not ids & {one.get("id") for one in other.iter()}


def test_colours_are_variables_of_the_page_so_that_it_may_be_dark() -> None:
    svg = make_chart().inline()
    assert "fill: var(--method)" in svg
    assert "stroke: var(--muted)" in svg
    assert not [colour for colour in PALETTE.values() if colour in svg]
    style = Path("nascore/figures/page.css.j2").read_text()
    light, dark = style.split("prefers-color-scheme: dark")
    for name, colour in PALETTE.items():
        assert f"--{name}: {colour};" in light
        assert f"--{name}: #" in dark


def test_an_inline_figure_is_named_and_described_and_leaks_nothing_into_the_page() -> None:
    svg = make_chart("what <it> shows").inline()
    root = ElementTree.fromstring(svg)
    assert root.attrib["class"] == "chart squares"
    assert (root.attrib["role"], root.attrib["aria-label"]) == ("img", "what <it> shows")
    assert not {one.tag for one in root.iter()} & {"style", "metadata", "script", "image"}
    assert "url(" not in svg
    assert make_chart().__html__() == make_chart().inline()


def test_each_marker_has_its_tooltip() -> None:
    root = ElementTree.fromstring(make_chart().inline())
    (dots,) = [one for one in root.iter("g") if one.get("class") == "dots method"]
    assert [mark.findtext("title") for mark in dots.iter("use")] == ["1", "4 & 5", "9"]


@pytest.mark.filterwarnings("error")
def test_text_is_neither_a_formula_nor_bound_to_the_font_that_measures_it() -> None:
    for label in ("$5 to $9", "螺丝", "<b>&"):
        texts = ElementTree.fromstring(make_chart(label=label).inline()).iter("text")
        assert label in [text.text for text in texts]


def test_a_file_is_svg_or_png_and_stands_alone(tmp_path: Path) -> None:
    chart = make_chart()
    chart.save(tmp_path / "a.svg")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert PALETTE["method"] in (tmp_path / "a.svg").read_text()
    chart.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (1440, 400)
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(ValueError, match=r"\.svg or \.png, got 'a\.pdf'"):
        chart.save(tmp_path / "a.pdf")


def test_matplotlib_is_imported_for_the_first_figure_and_without_global_state() -> None:
    code = (
        "import sys; import nascore.figures.run_charts, nascore.figures.chart as chart\n"
        "assert 'matplotlib' not in sys.modules\n"
        "axes = chart.make_axes(100); chart.Chart(chart.figure_of(axes), 'a', 'b').inline()\n"
        "assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
