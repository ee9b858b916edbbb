"""What `check_method` says: what was asked, or what does not hold."""

from __future__ import annotations

from dataclasses import dataclass


class MethodError(ValueError):
    """A method does not keep a promise.

    Attributes:
        check: Name of the check that failed, as in `MethodReport.passed`.
    """

    def __init__(self, method: str, check: str, message: str) -> None:
        self.check = check
        super().__init__(f"{method}: {check}: {message}")


@dataclass(frozen=True)
class MethodReport:
    """What a method was asked.

    Attributes:
        method: Name of its class.
        passed: Names of the checks that it passed, in their order.
        skipped: Name of a check that does not apply -> why.
    """

    method: str
    passed: tuple[str, ...]
    skipped: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{self.method} passed: {', '.join(self.passed)}"]
        lines += [f"skipped {name}: {why}" for name, why in self.skipped.items()]
        return "\n".join(lines)
