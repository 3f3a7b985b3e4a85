"""All benchmarks of a CPU, and their pages in docs/explanation: `make bench`.

python benchmarks/bench.py
python benchmarks/bench.py --page
"""

import subprocess
import sys
import time
from pathlib import Path

import tyro
from page import PAGES, written

from resnet_keras.files.atomic import write_text

HERE = Path(__file__).parent
FOLDER = HERE.parent / "docs" / "explanation"
SCRIPTS = ("training_step", "fit", "inference", "growth")


def main(page: bool = False) -> None:
    """Run the benchmarks of a CPU one after the other, and write the pages.

    Args:
        page: write the pages alone, from what was found last.
    """
    for script in () if page else SCRIPTS:
        print(f"== {script}", flush=True)
        start = time.monotonic()
        subprocess.run([sys.executable, HERE / f"{script}.py", "--keep"], check=True)
        print(f"   {time.monotonic() - start:.0f} s", flush=True)
    for name in PAGES:
        write_text(FOLDER / name, written(name))
        print(f"written  {FOLDER / name}")


if __name__ == "__main__":
    tyro.cli(main)
