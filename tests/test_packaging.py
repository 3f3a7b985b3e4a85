"""What is installed and how: the lock, the Makefile and the wheel."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from kit import ROOT, run
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import resnet_keras
from resnet_keras.export.serving import RUNTIMES

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, TOOLS = PYPROJECT["project"], PYPROJECT["tool"]
EXTRAS = PROJECT["optional-dependencies"]
LOCK = "requirements/lock.txt"


def pins(path):
    """The requirements of a list by name."""
    lines = (ROOT / path).read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert len({canonicalize_name(pin.name) for pin in found}) == len(found)
    return {canonicalize_name(pin.name): pin for pin in found}


def version(requirement):
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return specifier.version


def make(*arguments, folder=ROOT, **variables):
    """Runs make as a new terminal would: not as a part of the make that may run these tests."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        check=False,
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_requirements_of_every_extra_are_pinned_within_their_ranges(extra):
    pinned = pins(LOCK)
    for declared in map(Requirement, EXTRAS.get(extra, PROJECT["dependencies"])):
        if declared.name == PROJECT["name"]:
            assert declared.extras <= set(EXTRAS)
        else:
            pin = pinned[canonicalize_name(declared.name)]
            assert declared.specifier.contains(version(pin)), (declared, pin)


def test_requirements_are_versions_of_the_public_index_and_no_place():
    for pin in pins(LOCK).values():
        assert "+" not in version(pin)
        assert pin.url is None
        assert not pin.extras  # which pip refuses in constraints


def test_requirements_file_is_the_package_with_tensorflow_at_the_locked_versions():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        f"-c {LOCK}",
        "-e .[tensorflow]",
    ]


def test_version_is_that_of_the_project():
    assert resnet_keras.__version__ == PROJECT["version"]


def test_changelog_and_citation_name_the_version_and_its_date():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    released, date = re.findall(r"^## \[(\d\S*)\] - (\S+)$", changelog, re.MULTILINE)[0]
    citation = (ROOT / "CITATION.cff").read_text()
    assert released == PROJECT["version"]
    assert f"\nversion: {released}\ndate-released: {date}\n" in citation


def phony_targets():
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", "")
    (targets,) = re.findall(r"^\.PHONY: (.*)", makefile, re.MULTILINE)
    return set(targets.split()) - {"always"}


def test_make_help_lists_every_target():
    targets = phony_targets()
    assert {"setup", "test", "lint", "check", "tensorboard", "clean"} <= targets
    for arguments in (["help"], []):
        shown = make(*arguments)
        assert shown.returncode == 0, shown.stderr
        listed = set(re.findall(r"^  ([a-z]\S*)", shown.stdout, re.MULTILINE))
        assert listed == targets | {"train-<network>", "reproduce-<study>"}


def test_every_target_but_patterns_and_files_is_phony():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, re.MULTILINE))
    assert targets == phony_targets()


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["train-resnet50"], "resnet-keras train resnet50"),
        (
            ["train-resnet20", "DATA=digits", "RECIPE=quick", "EPOCHS=1", "ARGS=--foo"],
            "resnet-keras train resnet20 --data digits --recipe quick --epochs 1 --foo",
        ),
        (
            ["train-resnet50v1.5", "RUN=my runs/first", "SHORTCUT=C", "START_OVER=1"],
            "resnet-keras train resnet50v1.5 --run 'my runs/first' --shortcut C --start-over",
        ),
        (["evaluate", "RUN=docs"], "resnet-keras evaluate docs"),
        (
            ["predict", "RUN=docs", "IMAGE=a.png b.png"],
            "resnet-keras predict a.png b.png --model docs",
        ),
        (["reproduce-depth"], "resnet-keras reproduce depth"),
        (
            ["reproduce-depth", "DATA=cifar10", "SCALE=full", "SEEDS=3"],
            "resnet-keras reproduce depth --data cifar10 --scale full --seeds 3",
        ),
        (["list"], "resnet-keras list"),
        (["tensorboard"], "tensorboard --logdir runs --host 127.0.0.1 --port 6006"),
        (
            ["tensorboard", "RUN=docs", "PORT=7007"],
            "tensorboard --logdir docs --host 127.0.0.1 --port 7007",
        ),
        (["test"], "pytest -q -n 2 --dist worksteal -m 'not slow'"),
    ],
)
def test_make_runs(arguments, command):
    shown = make("--dry-run", *arguments)
    assert shown.returncode == 0, shown.stderr
    last = shown.stdout.splitlines()[-1]
    assert shlex.split(last) == shlex.split(f".venv/bin/{command}")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["evaluate"], "RUN "),
        (["predict", "RUN=docs"], "IMAGE "),
        (["evaluate", "RUN=nope"], "RUN=nope "),
        (["export", "RUN=my nope"], "RUN=my nope "),
        (["phone", "RUN=nope"], "RUN=nope "),
        (["tensorboard", "RUN=nope"], "RUN=nope "),
        (["notebooks", "NOTEBOOK=nope"], "notebooks/nope.ipynb"),
        (["fuzz", "FUZZ=abc"], "FUZZ=abc "),
        (["fuzz", "FUZZ=-3"], "FUZZ=-3 "),
        (["train-resnet50", "EPOCHS=1.5"], "EPOCHS=1.5 "),
        (["phone", "PORT=it's"], "PORT=it's "),
        (["setup", "PYTHON="], "3.11 to 3.13"),
    ],
)
def test_make_says_in_one_line_what_is_wrong_before_it_installs_anything(arguments, problem):
    shown = make("--dry-run", "--always-make", *arguments)
    assert shown.returncode == 2
    assert problem in shown.stderr
    assert shown.stderr.count("\n") == 1
    assert not shown.stdout


@pytest.mark.parametrize("given", ["", "1"])
def test_make_setup_installs_what_is_asked_for(given):
    commands = make("--dry-run", "--always-make", "setup", f"GPU={given}", "PYTHON=python").stdout
    extras = re.findall(rf"install -q --no-compile -c {LOCK} --editable '\.\[(.*)\]'", commands)
    assert extras == (["tensorflow", "gpu"] if given else ["tensorflow"])


def test_set_up_is_done_once_and_again_when_interrupted_or_out_of_date(tmp_path):
    (tmp_path / LOCK).parent.mkdir()
    for name in ("Makefile", "pyproject.toml", LOCK):
        shutil.copy(ROOT / name, tmp_path / name)
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder.parent / ".created").touch()
    pip = bin_folder / "python"
    pip.write_text('#!/bin/sh\necho "$@" >> pip.log\ncase "$*" in *$FAILING*) exit 1;; esac\n')
    pip.chmod(0o755)
    log = tmp_path / "pip.log"

    def set_up(failing):
        log.write_text("")
        finished = make("setup", folder=tmp_path, FAILING=failing)
        return finished.returncode, log.read_text().count("install")

    assert set_up(failing="--editable") == (2, 1)
    assert set_up(failing="nothing") == (0, 1)
    assert set_up(failing="nothing") == (0, 0)
    later = (bin_folder.parent / ".installed-tensorflow").stat().st_mtime + 1
    for changed in ("pyproject.toml", LOCK):
        later += 1
        os.utime(tmp_path / changed, (later, later))
        assert set_up(failing="nothing") == (0, 1)
        os.utime(bin_folder.parent / ".installed-tensorflow", (later, later))


def installed(path):
    """Where the wheel puts a file of the checkout: export/ goes into the package."""
    place = str(path.relative_to(ROOT))
    return f"resnet_keras/{place}" if place.startswith("export/") else place


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (built,) = folder.iterdir()
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    source = {
        installed(path)
        for package in ("resnet_keras", "export")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not {"__pycache__", "node_modules"} & set(path.parts)
    }
    assert {"resnet_keras/py.typed", "resnet_keras/export/web/index.html"} <= source
    source |= {installed(path) for path in RUNTIMES.values() if path.exists()}
    about = f"resnet_keras-{PROJECT['version']}.dist-info"
    assert {name for name in packed if not name.startswith(about)} == source
    assert f"{about}/licenses/LICENSE" in packed


def test_the_wheel_takes_what_the_phone_page_loads():
    """And a build without it is no surprise: hatch leaves out what is not there without a word."""
    artifacts = TOOLS["hatch"]["build"]["targets"]["wheel"]["artifacts"]
    assert sorted(artifacts) == sorted(map(installed, RUNTIMES.values()))


@pytest.mark.slow
def test_the_console_script_runs_outside_the_checkout(wheel, tmp_path):
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", wheel)
    # The dependencies are borrowed from the environment of the tests, behind the environment's own
    # packages; a .pth file there that points at the checkout is not read.
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    outside = tmp_path / "outside"
    outside.mkdir()
    imported = run(python, "-c", "import resnet_keras; print(resnet_keras.__file__)", cwd=outside)
    assert Path(imported.strip()).is_relative_to(packages)
    script = environment / "bin" / "resnet-keras"
    usage = run(script, "--help", cwd=outside)
    for command in ("list", "train", "evaluate", "predict", "export", "serve"):
        assert command in usage
    assert "25,557,032" in run(script, "list", "resnet50", cwd=outside)
    assert not list(outside.iterdir())
