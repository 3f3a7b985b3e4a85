"""Puts the pages of the quick studies into docs/reproduction.md, and their pictures beside it.

`python docs/gather_studies.py [FOLDER]` takes what `resnet-keras reproduce` left in
runs/studies/digits-quick, or in another such folder, and writes it below the last line that stays.
"""

import re
import shutil
import sys
from pathlib import Path

from resnet_keras.files.atomic import write_text
from resnet_keras.studies import STUDIES
from resnet_keras.studies.running import HOME

DOCS = Path(__file__).parent
PAGE = DOCS / "reproduction.md"
PICTURES = DOCS / "images" / "studies"
LAST_LINE = "<!-- docs/gather_studies.py writes everything below. -->\n"


def section(folder: Path, study: str) -> str:
    """A study's page as a section of another; its pictures are copied."""
    text = (folder / study / "README.md").read_text("utf-8")
    for name in re.findall(r"!\[[^\]]*\]\((\S+)\)", text):
        shutil.copy(folder / study / name, PICTURES / f"{study}-{name}")
    text = re.sub(r"(!\[[^\]]*\]\()", rf"\1images/studies/{study}-", text)
    text = re.sub(r" \[SVG\]\(\S+\)", "", text)
    return re.sub(r"^#", "###", text, flags=re.MULTILINE)


def main(folder: Path) -> None:
    """Writes the sections of all studies."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    kept, line, _ = PAGE.read_text("utf-8").partition(LAST_LINE)
    sections = (section(folder, study) for study in STUDIES)
    write_text(PAGE, kept + line + "\n" + "\n".join(sections))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HOME / "digits-quick")
