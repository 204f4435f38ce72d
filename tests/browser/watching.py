"""A page in a browser, and what it does that a page of unetseg must not do."""

from collections.abc import Callable
from typing import Any

SERIOUS = ("serious", "critical")


class Watched:
    """A page in the browser, and whatever it did that a page of ours must not do.

    page : of playwright
    faults : console errors and warnings of scripts, exceptions, requests to elsewhere
    """

    def __init__(self, page: Any, home: str) -> None:
        self.page, self.home = page, home
        self.faults: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        page.on("request", self._asked)
        page.on("requestfailed", self._failed)

    def _failed(self, request: Any) -> None:
        # What a page lets go of when it moves on to another case is no fault.
        if request.failure != "net::ERR_ABORTED":
            self.faults.append(f"failed: {request.url}")

    def _heard(self, message: Any) -> None:
        # What the software renderer says of itself is no fault of the page.
        if message.type == "error" or (
            message.type == "warning" and "GL Driver" not in message.text
        ):
            self.faults.append(f"{message.type}: {message.text}")

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.home, "data:", "blob:", "about:")):
            self.faults.append(f"left the page: {request.url}")

    def violations(self) -> list[str]:
        """What an accessibility check calls serious or critical, with the element."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{rule['id']}: {rule['help']}: {node['html'][:200]}"
            for rule in found
            if rule["impact"] in SERIOUS
            for node in rule["nodes"]
        ]


Visit = Callable[..., Watched]
