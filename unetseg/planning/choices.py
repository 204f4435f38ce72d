"""The values of a plan while it is being made."""

from collections.abc import Mapping
from typing import Any


class Choices:
    """Values with reasons; what the person has set is taken instead, and later values follow it."""

    def __init__(self, overrides: Mapping[str, Any]) -> None:
        self.overrides = dict(overrides)
        self.values: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}

    def take(self, key: str, value: Any, reason: str = "") -> Any:
        if key in self.overrides:
            value, reason = self.overrides.pop(key), "set by you"
        self.values[key] = value
        if reason:
            self.reasons[key] = reason
        return value
