"""The notebooks: what is committed was run, tells nothing of a machine, and runs again."""

import ast
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from kit import run

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
BY_HAND = "02_resnet50_step_by_step"
SOLUTIONS = 3
MACHINE = re.compile(r"(?<![\w.}])/(?:home|root|tmp|usr|var|work|content|Users|private)/\w")


def named(names):
    return pytest.mark.parametrize("notebook", names, ids=lambda path: path.stem)


def read(notebook):
    return json.loads(notebook.read_text("utf-8"))


def code_of(notebook):
    return [cell for cell in read(notebook)["cells"] if cell["cell_type"] == "code"]


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
        assert set(cell["metadata"]) <= {"cellView", "jupyter", "tags"}
    assert not MACHINE.findall(notebook.read_text("utf-8"))


def test_a_machine_s_paths_are_recognised():
    assert MACHINE.search('File "/home/ada/mine.py"') and MACHINE.search("/tmp/abc/run")
    assert not MACHINE.search("runs/01/tmp/a") and not MACHINE.search("{place}/home/x")


@named(NOTEBOOKS)
def test_solutions_are_folded_away(notebook):
    folded = [cell for cell in code_of(notebook) if cell["source"][0] == "# @title Solution\n"]
    assert len(folded) >= SOLUTIONS
    for cell in folded:
        assert cell["metadata"]["cellView"] == "form"
        assert cell["metadata"]["jupyter"] == {"source_hidden": True, "outputs_hidden": True}


@named(NOTEBOOKS)
def test_it_uses_public_names_only(notebook):
    for cell in code_of(notebook):
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


def test_the_walkthrough_builds_by_hand():
    """Its own blocks: the library's are there to compare with."""
    (notebook,) = (path for path in NOTEBOOKS if path.stem == BY_HAND)
    defined = {
        node.name
        for cell in code_of(notebook)
        for node in nodes(cell)
        if isinstance(node, ast.FunctionDef)
    }
    assert {"identity_block", "convolutional_block", "stem", "resnet50"} <= defined


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
    shutil.copy(notebook, tmp_path)
    command = (sys.executable, "-m", "pytest", "--nbmake", "--nbmake-timeout=1200", notebook.name)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    printed = run(*command, "-p", "no:cacheprovider", cwd=tmp_path, PATH=path, QUICK="1")
    assert "1 passed" in printed
