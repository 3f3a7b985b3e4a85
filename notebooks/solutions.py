"""Runs the solutions of a notebook's exercises, which stand folded in Markdown cells.

`<details>` folds a solution in JupyterLab, VS Code, on GitHub and on the site. The Python blocks of a
solution run as a code cell after the Markdown cell, in `make notebooks` and in the tests.
"""

import re
from copy import deepcopy

FENCED = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TAG = "solution"


def code_in(cell):
    """The Python blocks of a Markdown cell with `<details>`, joined; "" if there are none."""
    source = "".join(cell["source"])
    if cell["cell_type"] != "markdown" or "<details>" not in source:
        return ""
    return "\n\n".join(block.rstrip() for block in FENCED.findall(source))


def unfold(notebook, resources=None):
    """A copy of the notebook with a code cell after each folded solution; nbconvert's preprocessor."""
    notebook = deepcopy(notebook)
    cells = []
    for cell in notebook["cells"]:
        cells.append(cell)
        if code := code_in(cell):
            of_code = {
                "cell_type": "code",
                "id": f"{cell['id']}-code",
                "metadata": {"tags": [TAG]},
                "source": code,
                "outputs": [],
                "execution_count": None,
            }
            cells.append(_like(cell, of_code))
    notebook["cells"] = cells
    return notebook, resources


def fold(notebook, resources=None):
    """A copy of the notebook without the code cells of `unfold`; the others are counted again."""
    notebook = deepcopy(notebook)
    notebook["cells"] = [
        cell for cell in notebook["cells"] if TAG not in cell["metadata"].get("tags", [])
    ]
    code = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    for count, cell in enumerate(code, start=1):
        cell["execution_count"] = count
        for output in cell["outputs"]:
            if "execution_count" in output:
                output["execution_count"] = count
    return notebook, resources


def _like(cell, value):
    """The value in dictionaries of the cell's type: nbformat's have attributes."""
    return type(cell)(
        {key: type(cell)(part) if isinstance(part, dict) else part for key, part in value.items()}
    )
