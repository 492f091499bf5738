"""Renders pages, each one HTML file without scripts or links, and formats the numbers in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdcpc_ros.runtime.atomic_file import atomic_path

_NARROW_GAP = "\u202f"  # a narrow space without a line break


@dataclass(frozen=True)
class Tile:
    """A number and its meaning."""

    name: str
    value: str
    meaning: str
    unit: str = ""
    main: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a page, in a frame unless it is `bare`."""

    title: str = ""
    meaning: str = ""
    #: The kind of each part, a macro of templates/parts.jinja, and its content.
    parts: Sequence[tuple[str, Any]] = field(default_factory=list)
    bare: bool = False


def write_page(
    path: str | Path,
    *,
    title: str,
    kind: str,
    name: str,
    sections: Sequence[Section | Sequence[Section] | None],
    facts: Sequence[tuple[str, str]] = (),
    footer: str = "",
) -> None:
    """Renders a page and writes it atomically.

    `kind` stands above the heading `name`, the facts below it. A sequence in `sections` stands side by side; None is
    left out. Every value is escaped, since names of bags and topics are untrusted; lone surrogates become question
    marks.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # tables on the terminal do without

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.jinja").render(
        title=title, kind=kind, name=name, facts=facts, footer=footer, sections=[each for each in sections if each]
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def footer_of(report: dict[str, Any]) -> str:
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


def count_noun(count: int, noun: str, plural: str | None = None) -> str:
    """`1 frame`, `12 frames`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def css_colour(colour: tuple[int, int, int]) -> str:
    red, green, blue = colour
    return f"rgb({red:d} {green:d} {blue:d})"


def display_name(name: str) -> str:
    """A class's name without underscores."""
    return name.replace("_", " ")
