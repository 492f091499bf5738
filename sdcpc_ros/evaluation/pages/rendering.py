"""Renders templates. Every value is escaped, since names of bags and topics are untrusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sdcpc_ros.runtime.atomic_file import atomic_path

#: Widths of charts in CSS px: of a page, of half a page, of a telephone.
PAGE_PX, HALF_PX, NARROW_PX = 1022.0, 474.0, 326.0


@dataclass(frozen=True)
class Tile:
    """A number and its meaning."""

    name: str
    value: str
    meaning: str
    unit: str = ""
    main: bool = False


@dataclass(frozen=True)
class DrawnChart:
    """A chart for wide and for narrow windows; the page shows the one that fits."""

    wide: Markup
    narrow: Markup

    @classmethod
    def of(cls, name: str, draw: Callable[[str, float], Markup], wide_px: float) -> DrawnChart:
        """`draw` gets a name, unique in the page, and a width in px."""
        return cls(draw(f"{name}-wide", wide_px), draw(f"{name}-narrow", NARROW_PX))


def render(template: str, context: dict[str, Any]) -> str:
    """A page as text. Values other than Markup are escaped."""
    return _environment().get_template(template).render(context)


def write_page(path: str | Path, page: str) -> None:
    """Writes the page atomically. Half a character in a name of a file becomes a question mark."""
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
