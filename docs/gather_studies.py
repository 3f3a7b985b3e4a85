"""Copies the page of every quick study into docs/explanation/studies, and its pictures.

`python docs/gather_studies.py [FOLDER]` reads the pages that `resnet-keras reproduce` wrote in
runs/studies/digits-quick, or in another such folder.
"""

import re
import shutil
import sys
from functools import partial
from pathlib import Path

from resnet_keras.files.atomic import write_file, write_text
from resnet_keras.studies import STUDIES
from resnet_keras.studies.running import HOME

DOCS = Path(__file__).parent
PAGES = DOCS / "explanation" / "studies"
PICTURES = DOCS / "images" / "studies"
FROM_A_PAGE = "../../images/studies"


def page(folder: Path, study: str) -> str:
    """A study's page as one of the docs; its pictures are copied."""
    text = (folder / study / "README.md").read_text("utf-8")
    for name in re.findall(r"!\[[^\]]*\]\((\S+)\)", text):
        write_file(PICTURES / f"{study}-{name}", partial(shutil.copy, folder / study / name))
    text = re.sub(r"(!\[[^\]]*\]\()", rf"\1{FROM_A_PAGE}/{study}-", text)
    return re.sub(r" \[SVG\]\(\S+\)", "", text)


def main(folder: Path) -> None:
    """Writes the pages of all studies."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for study in STUDIES:
        write_text(PAGES / f"{study}.md", page(folder, study))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HOME / "digits-quick")
