"""Commands as a user runs them, who has not the repository on Python's path."""

import os
import subprocess


def run(*command, cwd=None, **variables):
    """What a command prints; it has to succeed. `variables` are added to the environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(
        [str(part) for part in command],
        check=False,
        cwd=cwd,
        env={**environment, **variables},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout
