"""Shows the page of a real export among the others, as docs/export-page.

`python docs/gather_export.py RUN/export` takes what was found there, and writes the page anew;
`python docs/gather_export.py` writes it from what was taken last, after its template changed.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from resnet_keras.export.manifest import MANIFEST, read_manifest
from resnet_keras.export.page import README, write_page

FOLDER = Path(__file__).parent / "export-page"


def page(folder: Path) -> str:
    """The page of what was found of an export."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise SystemExit(f"no {MANIFEST} there. Received: {folder}")
    with tempfile.TemporaryDirectory() as place:
        write_page(Path(place), manifest)
        return (Path(place) / README).read_text("utf-8")


def main(export: Path | None) -> None:
    """Writes the page."""
    FOLDER.mkdir(exist_ok=True)
    if export:
        shutil.copy(export / MANIFEST, FOLDER)
    (FOLDER / README).write_text(page(FOLDER), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
