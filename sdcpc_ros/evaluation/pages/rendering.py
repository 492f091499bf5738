"""Renders templates, and formats the numbers in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

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


def write_page(path: str | Path, template: str, context: dict[str, Any]) -> None:
    """Renders a page and writes it atomically. Lone surrogates in names of files become question marks."""
    page = render(template, context)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def render(template: str, context: dict[str, Any]) -> str:
    """A page as text. Every value is escaped, since names of bags and topics are untrusted."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(context)


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
