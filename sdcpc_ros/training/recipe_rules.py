"""Rules for the values of a recipe: a test, and the allowed values in words for the error message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, field, fields
from typing import Any, NamedTuple, TypeVar

_Settings = TypeVar("_Settings")


class RecipeError(ValueError):
    """A recipe is missing, unreadable, or holds a value that is not allowed."""


class Rule(NamedTuple):
    """A test of a value, and the allowed values in words."""

    holds: Callable[[Any], bool]
    allowed: str


def setting(rule: Rule, default: Any = MISSING) -> Any:
    """A field of a dataclass whose value `check` holds to a rule."""
    return field(default=default, metadata={"rule": rule})


def integer(low: int, high: int | None = None) -> Rule:
    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= (high or value)

    return Rule(holds, f"an integer of {low} or more" if high is None else f"an integer in {low}..{high}")


def number(low: float, high: float = float("inf"), *, without_low: bool = False, without_high: bool = False) -> Rule:
    def holds(value: Any) -> bool:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return False
        return (low < value if without_low else low <= value) and (value < high if without_high else value <= high)

    if high == float("inf"):
        return Rule(holds, f"a number above {low:g}" if without_low else f"a number of {low:g} or more")
    return Rule(holds, f"a number in {'(' if without_low else '['}{low:g}, {high:g}{')' if without_high else ']'}")


def one_of(*names: str) -> Rule:
    return Rule(lambda value: isinstance(value, str) and value in names, f"one of {', '.join(names)}")


def interval(low: float, high: float) -> Rule:
    element = number(low, high)

    def holds(value: Any) -> bool:
        return isinstance(value, tuple) and len(value) == 2 and all(map(element.holds, value)) and value[0] <= value[1]

    return Rule(holds, f"[low, high], numbers in {low:g}..{high:g}")


def names(of: str) -> Rule:
    def holds(value: Any) -> bool:
        return isinstance(value, tuple) and all(isinstance(name, str) for name in value)

    return Rule(holds, f"a list of names of {of}")


TEXT = Rule(lambda value: isinstance(value, str) and value != "", "a name")
SHARE = number(0, 1)
POSITIVE = number(0, without_low=True)
NON_NEGATIVE = number(0)
SIZE = Rule(
    lambda value: isinstance(value, tuple) and len(value) == 2 and all(map(integer(32).holds, value)),
    "[height, width], integers of 32 or more",
)


def built(kind: type[_Settings], values: Any, what: str) -> _Settings:
    """An instance of a dataclass from a mapping; RecipeError names fields that are unknown or missing."""
    values = mapping(values, what)
    known: dict[str, Field[Any]] = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]
    needed = {name for name, each in known.items() if each.default is MISSING}
    unknown, missing = sorted(set(values) - set(known)), sorted(needed - set(values))
    if unknown or missing:
        found = (("unknown", unknown), ("missing", missing))
        problems = [f"{title} {', '.join(map(str, names))}" for title, names in found if names]
        raise RecipeError(f"{'; '.join(problems)}; {what} holds {', '.join(sorted(known))}")
    return kind(**values)


def mapping(values: Any, what: str) -> Mapping[str, Any]:
    """`values` where they are a mapping; RecipeError else."""
    if not isinstance(values, dict):
        raise RecipeError(f"{what} of a recipe is {values!r}; a mapping of names to values is needed")
    return values


def check(settings: Any, within: str) -> None:
    """Raises RecipeError for the first field of `settings` that breaks its rule; within: as "phases: "."""
    for each in fields(settings):
        value, rule = getattr(settings, each.name), each.metadata.get("rule")
        if rule is not None and not rule.holds(value):
            raise RecipeError(f"recipe: {within}{each.name} is {value!r}; {rule.allowed} is needed")
