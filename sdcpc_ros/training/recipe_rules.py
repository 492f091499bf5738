"""Rules for the values of a recipe: a test, and the allowed values in words for the error message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, TypeVar

_Settings = TypeVar("_Settings", bound="Settings")


class RecipeError(ValueError):
    """A recipe is missing, unreadable, or holds a value that is not allowed."""


class Rule(NamedTuple):
    """A test of a value, and the allowed values in words."""

    holds: Callable[[Any], bool]
    allowed: str


def setting(rule: Rule, default: Any = MISSING) -> Any:
    """A field of `Settings` and the rule for its value."""
    return field(default=default, metadata={"rule": rule})


def integer(low: int, high: int | None = None) -> Rule:
    allowed = f"an integer of {low} or more" if high is None else f"an integer in {low}..{high}"
    return Rule(lambda value: type(value) is int and low <= value <= (high or value), allowed)


def number(holds: Callable[[float], bool], allowed: str) -> Rule:
    # By type, since a bool is an int too.
    return Rule(lambda value: type(value) in (int, float) and holds(value), f"a number {allowed}")


def one_of(*names: str) -> Rule:
    return Rule(lambda value: isinstance(value, str) and value in names, f"one of {', '.join(names)}")


def interval(low: float, high: float) -> Rule:
    within = number(lambda value: low <= value <= high, "")
    return Rule(
        lambda value: _is_tuple_of(value, within) and len(value) == 2 and value[0] <= value[1],
        f"[low, high], numbers in {low:g}..{high:g}",
    )


def names(of: str) -> Rule:
    return Rule(lambda value: _is_tuple_of(value, TEXT), f"a list of names of {of}")


def _is_tuple_of(value: Any, rule: Rule) -> bool:
    return isinstance(value, tuple) and all(map(rule.holds, value))


TEXT = Rule(lambda value: isinstance(value, str) and value != "", "a name")
SHARE = number(lambda value: 0 <= value <= 1, "in [0, 1]")
BELOW_ONE = number(lambda value: 0 <= value < 1, "in [0, 1)")
POSITIVE = number(lambda value: value > 0, "above 0")
NON_NEGATIVE = number(lambda value: value >= 0, "of 0 or more")
SIZE = Rule(
    lambda value: _is_tuple_of(value, integer(32)) and len(value) == 2, "[height, width], integers of 32 or more"
)


@dataclass(frozen=True)
class Settings:
    """A group of a recipe's fields, of which each `setting` is held to its rule."""

    #: Of error messages, as "phases: ".
    within: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Raises RecipeError for the first field that breaks its rule."""
        for each in fields(self):
            value, rule = getattr(self, each.name), each.metadata.get("rule")
            if rule is not None and not rule.holds(value):
                raise RecipeError(f"recipe: {self.within}{each.name} is {value!r}; {rule.allowed} is needed")

    @classmethod
    def from_dict(cls: type[_Settings], values: Any, what: str) -> _Settings:
        """The settings from a mapping. Raises RecipeError naming fields that are unknown, missing or not allowed."""
        if not isinstance(values, dict):
            raise RecipeError(f"{what} of a recipe is {values!r}; a mapping of names to values is needed")
        known = {each.name: each for each in fields(cls)}
        needed = {name for name, each in known.items() if each.default is MISSING}
        found = (("unknown", sorted(set(values) - set(known))), ("missing", sorted(needed - set(values))))
        if problems := [f"{title} {', '.join(map(str, names))}" for title, names in found if names]:
            raise RecipeError(f"{'; '.join(problems)}; {what} holds {', '.join(sorted(known))}")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
