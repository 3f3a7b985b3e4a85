"""What is installed and how: the lists of requirements, the Makefile and the wheel."""

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
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import resnet_keras
from resnet_keras.export.serving import RUNTIMES

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, TOOLS = PYPROJECT["project"], PYPROJECT["tool"]
EXTRAS = PROJECT["optional-dependencies"]
LISTS = {
    ("requirements.txt" if extra == "tensorflow" else f"requirements/{extra}.txt"): [
        *PROJECT["dependencies"],
        *packages,
    ]
    for extra, packages in EXTRAS.items()
}


def pins(path):
    """The requirements of a list by name; a name has several where it depends on the platform."""
    found = {}
    for line in (ROOT / path).read_text().splitlines():
        if line and not line.lstrip().startswith("#"):
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


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


def test_every_extra_has_its_requirements_list():
    listed = {f"requirements/{path.name}" for path in (ROOT / "requirements").iterdir()}
    assert {"requirements.txt", *listed} == set(LISTS)


def test_jax_needs_no_tensorflow():
    pinned = pins("requirements/jax.txt")
    assert "jax" in pinned and not [name for name in pinned if "tensorflow" in name]


@pytest.mark.parametrize("path", LISTS)
def test_requirements_pin_every_dependency_within_its_range(path):
    pinned = pins(path)
    for declared in map(Requirement, LISTS[path]):
        for requirement in pinned[canonicalize_name(declared.name)]:
            assert declared.specifier.contains(version(requirement)), (declared, requirement)


@pytest.mark.parametrize("path", LISTS)
def test_requirements_name_versions_of_the_public_index_and_no_place(path):
    for requirements in pins(path).values():
        for requirement in requirements:
            assert "+" not in version(requirement)
            assert requirement.url is None
    text = (ROOT / path).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-", text, re.MULTILINE), "an option of pip"
    constraints = set(re.findall(r"-c (\S+)", text))
    assert constraints <= {"pyproject.toml", *LISTS}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_requirements_lists_can_be_installed_together(python, platform):
    chosen = {}
    for path in LISTS:
        for name, requirements in pins(path).items():
            for requirement in requirements:
                if holds(requirement.marker, python, platform):
                    assert chosen.setdefault(name, version(requirement)) == version(requirement)


def holds(marker: Marker | None, python, platform):
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": platform,
    }
    return marker is None or marker.evaluate(environment)


def test_requirements_of_the_peers_take_torch_for_cpus_as_well():
    pinned = pins("requirements/peers.txt")
    assert [str(requirement) for requirement in pinned["torch"]] == ["torch==2.13.0"]
    assert not [name for name in pinned if re.match("nvidia|cuda|triton", name)]


def test_version_is_that_of_the_project():
    assert resnet_keras.__version__ == PROJECT["version"]


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (.*)", makefile, re.MULTILINE)) - {"always"}
    assert {"setup", "test", "lint", "check", "tensorboard", "clean"} <= targets
    for arguments in (["help"], []):
        shown = make(*arguments)
        assert shown.returncode == 0, shown.stderr
        listed = set(re.findall(r"^  ([a-z]\S*)", shown.stdout, re.MULTILINE))
        assert listed == targets | {"train-<network>", "reproduce-<study>"}


def test_every_target_but_patterns_and_files_is_phony():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, re.MULTILINE))
    assert targets == set(re.findall(r"^\.PHONY: (.*)", makefile, re.MULTILINE))


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
        (["evaluate", "RUN=runs/a"], "resnet-keras evaluate runs/a"),
        (
            ["predict", "RUN=runs/a", "IMAGE=a.png b.png"],
            "resnet-keras predict a.png b.png --model runs/a",
        ),
        (["reproduce-depth"], "resnet-keras reproduce depth"),
        (
            ["reproduce-depth", "DATA=cifar10", "SCALE=full", "SEEDS=3"],
            "resnet-keras reproduce depth --data cifar10 --scale full --seeds 3",
        ),
        (["list"], "resnet-keras list"),
        (["tensorboard"], "tensorboard --logdir runs --host 127.0.0.1 --port 6006"),
        (
            ["tensorboard", "RUN=runs/a", "PORT=7007"],
            "tensorboard --logdir runs/a --host 127.0.0.1 --port 7007",
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
    ("arguments", "missing"),
    [
        (["evaluate"], "RUN "),
        (["predict", "RUN=runs/a"], "IMAGE "),
        (["--always-make", "setup", "PYTHON="], "3.11 to 3.13"),
    ],
)
def test_make_says_in_one_line_what_is_missing(arguments, missing):
    shown = make("--dry-run", *arguments)
    assert shown.returncode == 2
    assert missing in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_make_setup_for_gpus_installs_their_requirements():
    commands = {
        gpu: make("--dry-run", "--always-make", "setup", f"GPU={gpu}", "PYTHON=python").stdout
        for gpu in ("", "1")
    }
    for installed in commands.values():
        assert "-r requirements.txt" in installed
    assert "requirements/gpu.txt" not in commands[""]
    assert "-r requirements/gpu.txt" in commands["1"]
    assert "requirements/dev.txt" not in commands["1"]


def test_set_up_is_done_once_and_again_when_interrupted_or_out_of_date(tmp_path):
    for name in ("Makefile", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
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

    assert set_up(failing="requirements.txt") == (2, 1)
    assert set_up(failing="--editable") == (2, 2)
    assert set_up(failing="nothing") == (0, 2)
    assert set_up(failing="nothing") == (0, 0)
    later = (bin_folder.parent / ".installed-runtime").stat().st_mtime + 1
    os.utime(tmp_path / "pyproject.toml", (later, later))
    assert set_up(failing="nothing") == (0, 2)


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
