"""The values of a plan while it is being made."""

from collections.abc import Mapping
from typing import Any


class Choices:
    """Values with reasons; what is given is taken instead, and later values follow it.

    given : why an override is what it is, by key; the person has set those without a reason
    """

    def __init__(
        self, overrides: Mapping[str, Any], given: Mapping[str, str] | None = None
    ) -> None:
        self.overrides = dict(overrides)
        self._given = given or {}
        self.values: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}

    def take(self, key: str, value: Any, reason: str = "") -> Any:
        if key in self.overrides:
            value, reason = self.overrides.pop(key), self._given.get(key, "set by you")
        self.values[key] = value
        if reason:
            self.reasons[key] = reason
        return value
