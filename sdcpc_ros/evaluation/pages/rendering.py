"""Renders pages, each one HTML file without scripts or links, and formats the numbers in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from sdcpc_ros.runtime.atomic_file import atomic_path
from sdcpc_ros.runtime.wording import count_noun

_NARROW_GAP = "\u202f"  # a narrow space without a line break


def write_page(path: str | Path, template: str, **values: Any) -> None:
    """Renders a file of `templates` with these values and writes the page atomically.

    Every value is escaped, since names of bags and topics are untrusted; lone surrogates become question marks.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # tables on the terminal do without

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (made_by, percent, milliseconds, seconds, count_noun, css_colour, display_name, relative_link)
    environment.filters |= {function.__name__: function for function in filters}
    page = environment.get_template(template).render(values)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def made_by(report: dict[str, Any]) -> str:
    """Who made a report, and when."""
    made = f"Made by sdcpc_ros {report['versions'].get('sdcpc_ros', '')}".strip()
    finished = report.get("timing", {}).get("finished")
    return f"{made}, {finished}." if finished else f"{made}."


def percent(share: float | None, digits: int = 1) -> str:
    """A share in 0..1 as `43.2 %`; a dash for None."""
    return "–" if share is None else f"{100 * share:.{digits}f}{_NARROW_GAP}%"


def milliseconds(value: float | None) -> str:
    """At most three digits."""
    return "–" if value is None else f"{value:.{0 if abs(value) >= 100 else 1}f}{_NARROW_GAP}ms"


def seconds(value: float) -> str:
    """`9.9 s`, `12 min 30 s`, `2 h 05 min`."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def css_colour(colour: tuple[int, int, int]) -> str:
    red, green, blue = colour
    return f"rgb({red:d} {green:d} {blue:d})"


def display_name(name: str) -> str:
    """A class's name without underscores."""
    return name.replace("_", " ")


def relative_link(path: str) -> str:
    """It begins with "./", so a bag's name is never taken for a URL scheme."""
    return "./" + quote(path, errors="replace")
