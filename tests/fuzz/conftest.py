"""Counts what was tried."""

import pytest
from damage import COUNTS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tells the counts under the results."""
    if COUNTS["tried"]:
        terminalreporter.write_line(f"fuzz: {COUNTS['tried']} tried, {COUNTS['failed']} failed")
