"""Counts what was tried, and refuses a FUZZ that is no number of cases."""

import pytest
from damage import COUNTS, FUZZ


def pytest_configure() -> None:
    """Refuses bad settings in one line."""
    if not FUZZ.isdecimal():
        raise pytest.UsageError(f"FUZZ={FUZZ} is not a whole number of cases")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tells the counts under the results."""
    if COUNTS["tried"]:
        terminalreporter.write_line(f"fuzz: {COUNTS['tried']} tried, {COUNTS['failed']} failed")
