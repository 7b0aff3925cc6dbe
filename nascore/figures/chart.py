"""A matplotlib figure with its text alternative: inline SVG for a page, or a file.

Matplotlib is imported when the first chart is drawn, and its global state is not used: figures are
made without pyplot, and settings hold only while a figure is drawn.
"""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 720
"""Width of every figure in points, which are the units of the SVG view box."""

PALETTE = {
    "ink": "#171a26",
    "muted": "#596074",
    "line": "#e2e5ee",
    "soft": "#eef0f7",
    "card": "#ffffff",
    "method": "#4251e0",
    "control": "#b8620b",
    "data": "#14877d",
    "profiling": "#b3418f",
    "overhead": "#9aa2b5",
    "good": "#0c7a4a",
    "bad": "#b23128",
    "open": "#85590a",
}
"""Light colours by the names of the variables in `page.css.j2`, which has the dark ones too."""

_POINTS_PER_INCH = 72
_PNG_DPI = 144
_XML = {"xmlns": "http://www.w3.org/2000/svg"}
_GENERATED_ID = re.compile(r"[\w.]+_\d+")
_FONT_FAMILY = re.compile(r" '[^;\"]*'(?:, (?:'[^']*'|[a-z-]+))*")


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn figure.

    Attributes:
        figure: drawn in the colours of `PALETTE`.
        name: CSS class of the SVG element.
        text: text alternative, for those who cannot see the figure.
        tooltips: by the gid of an artist, one text for each of its markers in drawing order.
            Artists of one gid share the list.
    """

    figure: "Figure"
    name: str
    text: str
    tooltips: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __html__(self) -> str:
        """Return the figure as jinja2 puts it into a page."""
        return self.inline()

    def inline(self) -> str:
        """Return an `<svg>` element for a page, in the colours of the page's style sheet.

        The gid of an artist is the class of its element. The same chart gives the same text.
        """
        svg = ElementTree.tostring(self._element(), encoding="unicode")
        for name, colour in PALETTE.items():
            svg = svg.replace(colour, f"var(--{name})")
        return svg

    def save(self, path: Path) -> None:
        """Write the figure on a white background, as SVG or PNG by the suffix of the path.

        Raises:
            ValueError: The suffix is another one.
        """
        if path.suffix == ".svg":
            element = self._element(facecolor="white")
            element.attrib.update(_XML)
            path.write_text(ElementTree.tostring(element, encoding="unicode"), encoding="utf-8")
        elif path.suffix == ".png":
            path.write_bytes(
                self._draw("png", facecolor="white", dpi=_PNG_DPI, metadata={"Software": None})
            )
        else:
            raise ValueError(f"a chart is saved as .svg or .png, got {path.name!r}")

    def _element(self, *, facecolor: str = "none") -> ElementTree.Element:
        """Return the SVG without namespaces, metadata and identifiers that nothing refers to."""
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        text = self._draw("svg", facecolor=facecolor, metadata=metadata).decode()
        text = text[text.index("<svg") :].replace("xlink:href=", "href=")
        root = ElementTree.fromstring(re.sub(r' xmlns(:xlink)?="[^"]*"', "", text))
        for child in list(root):
            # The style holds for all elements of a page: the root below has what it sets.
            if child.tag == "metadata" or child.find("style") is not None:
                root.remove(child)
        root.attrib = {
            "class": f"chart {self.name}",
            "viewBox": root.attrib["viewBox"],
            "role": "img",
            "aria-label": self.text,
            "style": "stroke-linejoin: round; stroke-linecap: butt",
        }
        self._add_tooltips(root)
        _clean_up(root)
        return root

    def _draw(self, file_format: str, **options: Any) -> bytes:
        import matplotlib
        from matplotlib.text import Text

        settings = {
            "svg.fonttype": "none",  # text stays text, which a page can scale and a user can copy
            "svg.hashsalt": f"{self.name} {self.text}",  # identifiers differ between the charts
        }
        for text in self.figure.findobj(Text):
            text.set_parse_math(False)  # a class name with two dollars is not a formula
        file = io.BytesIO()
        with matplotlib.rc_context(settings), warnings.catch_warnings():  # type: ignore[arg-type]
            # The font that measures text lacks scripts that the reader's browser has.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            self.figure.savefig(file, format=file_format, **options)
        return file.getvalue()

    def _add_tooltips(self, root: ElementTree.Element) -> None:
        remaining = {gid: iter(texts) for gid, texts in self.tooltips.items()}
        for group in root.iter("g"):
            texts = remaining.get(group.get("id", ""))
            if texts is not None:
                for mark in list(group.iter("use")) or list(group.iter("path")):
                    ElementTree.SubElement(mark, "title").text = next(texts)


def _clean_up(root: ElementTree.Element) -> None:
    """Turn gids into classes; drop generated identifiers, font families and white space."""
    used = {element.get("href", "").removeprefix("#") for element in root.iter("use")}
    clips = {element.get("clip-path", "")[5:-1] for element in root.iter()}
    for element in root.iter():
        identifier = element.get("id")
        if identifier is not None and identifier not in used | clips:
            del element.attrib["id"]
            if not _GENERATED_ID.fullmatch(identifier):
                element.set("class", identifier)
        if element.tag == "text" and "style" in element.attrib:
            element.set("style", _FONT_FAMILY.sub(" sans-serif", element.attrib["style"]))
        if element.tag not in ("text", "title"):
            element.text = None
        element.tail = None


def make_axes(
    height: float, *, left: float = 70, right: float = 16, top: float = 14, bottom: float = 54
) -> "Axes":
    """Return the axes of a new figure, with a horizontal grid and no frame.

    Args:
        height: height of the figure in points; its width is `WIDTH`.
        left: margin in points; also `right`, `top` and `bottom`.
    """
    from matplotlib.figure import Figure

    size = (WIDTH / _POINTS_PER_INCH, height / _POINTS_PER_INCH)
    figure = Figure(figsize=size, dpi=_POINTS_PER_INCH)
    width_share, height_share = 1 - (left + right) / WIDTH, 1 - (top + bottom) / height
    axes = figure.add_axes((left / WIDTH, bottom / height, width_share, height_share))
    axes.set_facecolor("none")
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(PALETTE["muted"])
    axes.tick_params(length=0, labelsize=11, labelcolor=PALETTE["muted"], pad=8)
    axes.grid(axis="y", color=PALETTE["line"], linewidth=1, clip_on=False)
    axes.set_axisbelow(True)
    return axes


def figure_of(axes: "Axes") -> "Figure":
    """Return the figure that `make_axes` has made for these axes."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure
