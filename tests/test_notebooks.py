"""The notebooks: what is committed was run, tells nothing of a machine, and runs again."""

import ast
import json
import os
import re
import runpy
import sys
from pathlib import Path

import pytest
from kit import run

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
BY_HAND = "02_resnet50_step_by_step"
EXERCISES = 2  # at least
FOLDED = runpy.run_path(str(NOTEBOOKS[0].parent / "solutions.py"))
MACHINE = re.compile(r"(?<![\w.}])/(?:home|root|tmp|usr|var|work|content|Users|private)/\w")


def named(names):
    return pytest.mark.parametrize("notebook", names, ids=lambda path: path.stem)


def read(notebook):
    return json.loads(notebook.read_text("utf-8"))


def code_of(notebook, *, solutions=False):
    """The code cells, with the folded solutions or without."""
    whole = read(notebook)
    if solutions:
        whole, _ = FOLDED["unfold"](whole)
    return [cell for cell in whole["cells"] if cell["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


def nodes(cell):
    """A cell's syntax, IPython's commands left out."""
    return ast.walk(ast.parse(re.sub(r"^(\s*)%.*$", r"\1pass", source(cell), flags=re.M)))


def test_there_are_eight():
    assert [path.stem[:3] for path in NOTEBOOKS] == [f"0{number}_" for number in range(1, 9)]


@named(NOTEBOOKS)
def test_it_was_run_from_top_to_bottom(notebook):
    code = code_of(notebook)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert "error" not in {output["output_type"] for output in outputs}
    assert [output for output in outputs if "image/png" in output.get("data", {})]


@named(NOTEBOOKS)
def test_nothing_of_the_machine_is_kept(notebook):
    whole = read(notebook)
    assert whole["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in whole["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
    assert not MACHINE.findall(notebook.read_text("utf-8"))


def test_a_machine_s_paths_are_recognised():
    assert MACHINE.search('File "/home/ada/mine.py"') and MACHINE.search("/tmp/abc/run")
    assert not MACHINE.search("runs/01/tmp/a") and not MACHINE.search("{place}/home/x")


@named(NOTEBOOKS)
def test_exercises_have_folded_solutions_with_code(notebook):
    """HTML's <details> folds everywhere; Markdown in it needs an empty line before and after."""
    cells = read(notebook)["cells"]
    folded = [source(cell) for cell in cells if "<details>" in source(cell)]
    exercises = [cell for cell in cells if re.search(r"^\*\*\d\.\*\*", source(cell), re.MULTILINE)]
    assert len(folded) >= len(exercises) >= EXERCISES
    for text in folded:
        assert re.fullmatch(
            r"<details>\n<summary>[^\n]+</summary>\n\n```python\n.*```\n.*\n</details>",
            text,
            re.DOTALL,
        )
        assert text.count("```") == 2
    assert len(code_of(notebook, solutions=True)) == len(code_of(notebook)) + len(folded)


def test_solutions_run_in_their_place_and_are_folded_again():
    notebook = read(NOTEBOOKS[0])
    filled, _ = FOLDED["unfold"](notebook)
    places = [i for i, cell in enumerate(filled["cells"]) if "<details>" in source(cell)]
    for place in places:
        solution = filled["cells"][place + 1]
        assert solution["cell_type"] == "code"
        assert solution["source"] in source(filled["cells"][place])
    assert FOLDED["fold"](filled)[0] == notebook


@named(NOTEBOOKS)
def test_it_uses_public_names_only(notebook):
    for cell in code_of(notebook, solutions=True):
        for node in nodes(cell):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [part for alias in node.names for part in alias.name.split(".")]
            elif isinstance(node, ast.Attribute):
                names = [node.attr]
            private = [name for name in names if re.match("_(?!_)", name)]
            assert not private, source(cell)


def test_the_walkthrough_is_filled_in_by_hand():
    """Each part is first a definition with blanks, and then a folded solution without."""
    (notebook,) = (path for path in NOTEBOOKS if path.stem == BY_HAND)
    defined: dict[str, list[bool]] = {}
    for cell in code_of(notebook, solutions=True):
        for node in nodes(cell):
            if isinstance(node, ast.FunctionDef):
                blanks = ["x = ..." in ast.unparse(part) for part in node.body]
                defined.setdefault(node.name, []).append(any(blanks))
    for name in ("identity_block", "convolutional_block", "stem", "resnet50"):
        assert defined[name] == [True, False]


@named([notebook for notebook in NOTEBOOKS if notebook.stem != BY_HAND])
def test_its_first_cell_tells_how_to_run_it_quickly(notebook, monkeypatch):
    first, *others = map(source, code_of(notebook))
    (quick,) = re.findall(r"^QUICK = (.*)", first, re.MULTILINE)
    assert any("QUICK" in cell for cell in others)
    monkeypatch.setenv("QUICK", "1")
    assert eval(quick, {"os": os}) is True
    monkeypatch.delenv("QUICK")
    assert eval(quick, {"os": os}) is False


@pytest.mark.slow
@named(NOTEBOOKS)
def test_it_runs(notebook, tmp_path):
    pytest.importorskip("nbmake", reason="it comes with the notebooks extra")
    filled, _ = FOLDED["unfold"](read(notebook))
    (tmp_path / notebook.name).write_text(json.dumps(filled), "utf-8")
    command = (sys.executable, "-m", "pytest", "--nbmake", "--nbmake-timeout=1200", notebook.name)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    printed = run(*command, "-p", "no:cacheprovider", cwd=tmp_path, PATH=path, QUICK="1")
    assert "1 passed" in printed
