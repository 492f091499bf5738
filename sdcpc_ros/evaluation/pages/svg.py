"""Matplotlib figures as SVG elements with the page's colours and fonts, light or dark.

Matplotlib's SVG is edited: fixed colours become CSS variables, ids get the chart's name, and metadata is removed. Text
stays text.
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
import xml.etree.ElementTree as ElementTree
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

#: Placeholder colours; each becomes the variable of this name in page.css.
INK, FAINT, LINE, ACCENT, SECOND, BAD, GOOD, CARD = (f"#0{n}0{n}0{n}" for n in range(1, 9))
_VARIABLES = dict(
    zip(
        (INK, FAINT, LINE, ACCENT, SECOND, BAD, GOOD, CARD),
        ("ink", "faint", "line", "accent", "second", "bad", "good", "card"),
    )
)

NAME_LETTERS = 22  #: longer names are cut off in charts
_PX_PER_INCH = 72  # of an SVG by Matplotlib
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text as text: selectable, and in the page's font
    "text.parse_math": False,  # a "$" in a name is text
    "font.size": 12,
    "axes.edgecolor": LINE,
    "axes.labelcolor": FAINT,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 1,
    "figure.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 1,
    "text.color": INK,
    "xtick.color": LINE,
    "xtick.labelcolor": FAINT,
    "ytick.color": LINE,
    "ytick.labelcolor": FAINT,
}
_FONT = re.compile(r"font:\s*(?:(\w+)\s+)?([\d.]+)px[^;]*")
_FAMILY = re.compile(r"font-family:[^;]*;?\s*")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


class Chart:
    """A figure of (width, height) CSS pixels. Draw within `with Chart(...) as chart:`, then take `chart.svg()`.

    `name` is unique within a page; `description` is for screen readers.
    """

    def __init__(self, name: str, description: str, width: float, height: float) -> None:
        self.name, self.description = name, description
        self.width, self.height = width, height
        self._context = matplotlib.rc_context({**_STYLE, "svg.hashsalt": name})
        self._tips: list[str] = []

    def __enter__(self) -> Chart:
        self._context.__enter__()
        self.figure = Figure(figsize=(self.width / _PX_PER_INCH, self.height / _PX_PER_INCH), dpi=_PX_PER_INCH)
        return self

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)

    def axes(self, left: float, top: float, right: float, bottom: float) -> Axes:
        """Axes with these edges, in px from the left and the top of the chart."""
        width, height = self.width, self.height
        return self.figure.add_axes(
            (left / width, 1 - bottom / height, (right - left) / width, (bottom - top) / height)
        )

    def tip(self, artist: Artist, text: str) -> None:
        """Sets the tooltip of an artist."""
        artist.set_gid(f"tip{len(self._tips)}")
        self._tips.append(plain(text))

    def svg(self) -> Markup:
        """The chart as an <svg> element. Call it within the `with` block."""
        FigureCanvasSVG(self.figure)
        file = io.StringIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # only measured with Matplotlib's font, drawn with the page's
            self.figure.savefig(file, format="svg", metadata={"Date": None})
        return Markup(self._edited(file.getvalue()))

    def _edited(self, text: str) -> str:
        root = ElementTree.fromstring(text)
        for element in root.iter():
            element.tag = _local(element.tag)
            element.attrib = {_local(name): value for name, value in element.attrib.items() if "type" not in name}
        for parent in list(root.iter()):
            for child in list(parent):
                if child.tag == "metadata" or (child.tag == "defs" and child.find("style") is not None):
                    parent.remove(child)
        used = {
            reference
            for element in root.iter()
            for value in element.attrib.values()
            for reference in (*_REFERENCE.findall(value), *([value[1:]] if value.startswith("#") else []))
        }
        for element in root.iter():
            identity = element.attrib.pop("id", "")
            if re.fullmatch(r"tip\d+", identity):
                title = ElementTree.Element("title")
                title.text = self._tips[int(identity[3:])]
                element.insert(0, title)
            elif identity in used:
                element.set("id", f"{self.name}-{identity}")
            for name, value in element.attrib.items():
                element.set(name, self._in_page(name, value))
        root.attrib = {
            "viewBox": root.get("viewBox", ""),
            "role": "img",
            "aria-label": plain(self.description),
            "style": f"max-width: {self.width:g}px",
        }
        return ElementTree.tostring(root, encoding="unicode")

    def _in_page(self, name: str, value: str) -> str:
        if name == "href":
            return f"#{self.name}-{value[1:]}"
        value = _REFERENCE.sub(rf"url(#{self.name}-\1)", value)
        if name == "style":
            value = _FAMILY.sub("", value)
            value = _FONT.sub(lambda font: f"font-size: {font[2]}px; font-weight: {font[1] or 'normal'}", value)
            for mark, variable in _VARIABLES.items():
                value = value.replace(mark, f"var(--{variable})")
        return value


def plain(text: str) -> str:
    """The text with spaces in place of control characters, which XML does not allow."""
    return "".join(" " if unicodedata.category(letter).startswith("C") else letter for letter in text)


def shorten(name: str, letters: int = NAME_LETTERS) -> str:
    """A name for a chart: without underscores, and cut off."""
    name = plain(name).replace("_", " ")
    return name if len(name) <= letters else name[: letters - 1] + "…"


def _local(name: str) -> str:
    return name.rpartition("}")[2]
