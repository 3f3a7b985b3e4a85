"""Copies the pages of the quick studies into docs/explanation/studies, and writes their claims.

`python docs/gather_studies.py [FOLDER]` reads the pages that `resnet-keras reproduce` wrote in
runs/studies/fashion-mnist-quick, or in another such folder. `python docs/gather_studies.py claims`
writes claims.md alone, which needs no runs.
"""

import re
import shutil
import sys
from functools import partial
from pathlib import Path

from resnet_keras.files.atomic import write_file, write_text
from resnet_keras.studies import STUDIES, estimate, find
from resnet_keras.studies.page import scales, stated
from resnet_keras.studies.running import HOME

DOCS = Path(__file__).parent
PAGES = DOCS / "explanation" / "studies"
PICTURES = DOCS / "images" / "studies"
FROM_A_PAGE = "../../images/studies"
CLAIMS = PAGES / "claims.md"
HEADING = """# Claims and verdicts

Each study states its claims before it trains. `resnet-keras reproduce STUDY` prints them first, and
judges them on its page.

A claim compares two quantities A and B. The *effect* is A - B, the mean over the seeds. Both
networks see the same images in the same order, so the difference is paired by seed.

## The rule

| the 95% interval of the effect | verdict |
|---|---|
| lies wholly on the side that counts | **shown** |
| includes the threshold | **not shown** |
| lies wholly on the other side | **contradicted** |

The threshold is the smallest effect that counts. The interval is Student's t interval of two
variances that add up: the variance over the seeds and, of a test error, the variance over the test
images. Its degrees of freedom are those of Welch and Satterthwaite (Satterthwaite 1946, *An
approximate distribution of estimates of variance components*; Owen 2007, *The pigeonhole
bootstrap*, for seeds and images that are crossed). Training errors, responses, gradients, lesions
and protocols have the variance over the seeds alone, and the interval is that of the paired t-test.
The code is `resnet_keras/studies/verdict.py`.

The rule is weak with two or three seeds:

- t is 12.7 with two seeds and 4.3 with three, so only large effects are shown.
- Seeds can agree by chance. In simulations, the interval covered the true effect in 96% to 98% of
  the cases. Where the seeds contribute three times the standard deviation of the images, it covered
  89% with two seeds, 94% with three and 95% with four.
- Each claim has its own 95%. Of forty claims without an effect, one is shown by chance.
- One seed leaves the interval open, and so do seeds that agree exactly. Nothing is then shown.
- The digits have 360 test images. Differences below 2 points are rarely shown on them.

A network whose training diverges classifies all images wrongly.

## Claims and scales

Minutes are estimates for two idle cores, from the multiply-adds of training, validation and test:
`resnet20` at 28x28 pixels takes 0.17 s a step of 128 images with AVX-512 and bfloat16, and 0.38 s
with AVX2. The scale `full` is for GPUs; its estimates show how much it computes. The claims below
are those of the quick scale.
"""


def page(folder: Path, study: str) -> str:
    """A study's page as one of the docs; its pictures are copied."""
    text = (folder / study / "README.md").read_text("utf-8")
    for name in re.findall(r"!\[[^\]]*\]\((\S+)\)", text):
        write_file(PICTURES / f"{study}-{name}", partial(shutil.copy, folder / study / name))
    text = re.sub(r"(!\[[^\]]*\]\()", rf"\1{FROM_A_PAGE}/{study}-", text)
    return re.sub(r"\n\[SVG\]\(\S+\)", "", text)


def headline(text: str) -> str:
    """What a study's page says first: how many of its claims are shown."""
    return text.partition("**")[2].partition("**")[0]


def claims() -> str:
    """The page that states the rule, and the claims and scales of all studies."""
    setting = next(one for one in estimate.SETTINGS if one.data == "fashion-mnist")
    parts = [HEADING]
    for name in STUDIES:
        study = find(name)
        parts.append(f"### {study.title}\n\n{stated(study.claims(setting))}\n\n{scales(study)}\n")
    return "\n".join(parts)


def main(folder: Path) -> None:
    """Writes the pages of all studies, and their verdicts into the table of contents."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    contents = (PAGES / "index.md").read_text("utf-8")
    for study in STUDIES:
        text = page(folder, study)
        write_text(PAGES / f"{study}.md", text)
        row = re.compile(rf"^(\| \[[^\]]+\]\({study}\.md\) \| ).*$", re.MULTILINE)
        contents = row.sub(lambda match, text=text: f"{match[1]}{headline(text)} |", contents)
    write_text(PAGES / "index.md", contents)


if __name__ == "__main__":
    write_text(CLAIMS, claims())
    if sys.argv[1:] != ["claims"]:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else HOME / "fashion-mnist-quick")
