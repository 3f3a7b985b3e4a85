"""The pages: their commands are ones that the program takes, their Python and shell blocks run."""

import contextlib
import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kit import docs_script
from PIL import Image
from test_packaging import make

from resnet_keras import architectures, cli, create, recipes
from resnet_keras.cli.arguments import dispatch, options_of
from resnet_keras.errors import InputError
from resnet_keras.export import formats
from resnet_keras.studies import STUDIES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
STUDY_PAGES = ROOT / "docs" / "explanation" / "studies"
EXPORT_PAGE = ROOT / "docs" / "export-page" / "README.md"
command_line = docs_script("command_line")
TEMPLATES = sorted((ROOT / "export" / "templates").glob("*.md.j2"))
NOT_RUN = ("kotlin", "swift", "cpp")  # no tool here compiles them, and the pages say so
# Commands that need what is not here, or take long and are run by tests of their own. Where a
# public dataset is here, a command that would download it trains for half an hour.
ELSEWHERE = re.compile(
    r"imagenet|cifar10|--download|\d\.\d+\.\d+\.\d|--hosts|reproduce|launch|resnet1202|resnet110|without-bn|export|serve"
)
PROGRAM = "resnet-keras"
PLACEHOLDERS = {"RUN": "runs/a", "STUDY": "depth", "MODEL.keras": "mine.keras"}
CLASSES = ("beagle", "collie", "dachshund", "husky", "poodle", "spaniel")
SIZE = 32


def blocks(page, language):
    text = page.read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def lines(page):
    """Commands of a page's shell blocks, of its indented lines, and of those in its sentences."""
    text = page.read_text("utf-8")
    shell = "\n".join(blocks(page, "sh"))
    indented = "\n".join(re.findall(r"^ {4}((?:resnet-keras|make) .*)$", text, re.MULTILINE))
    inline = "\n".join(re.findall(r"`((?:resnet-keras|make) [^`…<>]+)`", text))
    joined = re.sub(r"\\\n\s*", " ", f"{shell}\n{indented}\n{inline}")
    return [line.strip() for line in joined.splitlines() if line.strip()]


def words(line):
    """A line as the shell splits it, comments left out and variables set before it."""
    found = shlex.split(line, comments=True)
    while found and re.fullmatch(r"[A-Z_]+=.*", found[0]):
        found = found[1:]
    return [PLACEHOLDERS.get(word, word) for word in found]


def commands(page):
    """What a page tells to type of the program, `make` replaced by what it would run."""
    found = []
    for line in lines(page):
        command = words(line)
        if command[:1] == ["make"]:
            shown = make(
                "--dry-run",
                *(re.sub("^RUN=.*", "RUN=docs", word) for word in command[1:]),
                RUN="docs",  # make wants a folder that exists
                IMAGE="photo.jpg",
                SOURCE="model.safetensors",
                NETWORK="resnet50v1.5",
                OUTPUT="mine.keras",
            )
            assert shown.returncode == 0, (line, shown.stderr)
            command = shlex.split(shown.stdout.splitlines()[-1]) if shown.stdout else []
        found += [
            command[at + 1 :] for at, word in enumerate(command) if Path(word).name == PROGRAM
        ]
    return found


def parsed(arguments):
    """The command that the program would run, and with what; nothing is run."""
    called = {}

    def stub(name, function):
        @functools.wraps(function)
        def note(*_, **options):
            called.update(options, command=name)

        return note

    arguments = [one for one in arguments if one != cli.DOWNLOAD]
    if arguments[0] == "launch":
        arguments = arguments[arguments.index("train") :]
    stubs = {name: stub(name, function) for name, function in cli.COMMANDS.items()}
    with contextlib.suppress(SystemExit, InputError):
        dispatch(arguments, stubs)
    return called


def named(pages):
    return pytest.mark.parametrize(
        "page", pages, ids=lambda page: page.relative_to(ROOT).as_posix()
    )


@named(PAGES)
def test_its_commands_are_ones_of_the_program(page):
    for arguments in commands(page):
        called = parsed(arguments)
        assert called or arguments == ["--help"], arguments
        if "network" in called:
            architectures.find(called["network"])
        if "recipe" in called and not called["recipe"].endswith(".toml"):
            recipes.find(called["recipe"])
        if "study" in called:
            assert called["study"] in STUDIES


def test_a_command_that_is_not_one_is_noticed():
    assert not parsed(["train", "resnet50", "--no-such-option"]) and not parsed(["fly"])
    assert parsed(["train", "resnet20", "--epochs", "2"])["network"] == "resnet20"


@named(PAGES)
def test_its_blocks_tell_their_language(page):
    told = re.findall(r"^```(.*)$", page.read_text("utf-8"), re.MULTILINE)[::2]
    assert set(told) <= {"", "python", "sh", "bash", "yaml", "toml", "js", *NOT_RUN}


@named([page for page in PAGES if page != EXPORT_PAGE])
def test_its_lines_are_short(page):
    """Tables, pictures, links and code may be longer, and pages that the program writes."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    free = re.compile(r"\s*(members:|\||!\[|<img|::: )|.*\]\(|\S+$")
    assert [one for one in text.splitlines() if len(one) > 100 and not free.match(one)] == []


def anchor(heading):
    """The anchor that MkDocs gives to a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())


@named(PAGES)
def test_its_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text):
        path, _, part = "".join(target).partition("#")
        found = (page.parent / path).resolve() if path else page
        if re.match(r"[a-z]+:", path) or found == ROOT / "docs" / command_line.PAGE:
            continue
        assert found.exists(), target
        if part:
            headings = re.findall(r"^#+ (.*)$", found.read_text("utf-8"), re.MULTILINE)
            assert part in map(anchor, headings), target


def test_the_page_of_the_command_line_has_every_option():
    text = command_line.page()
    for name, command in cli.COMMANDS.items():
        _, _, section = text.partition(f"\n## {name}\n")
        shown = set(re.findall(r"--[a-z0-9-]+", section.partition("\n## ")[0]))
        assert shown >= {one for one in options_of(command) if len(one) > 2}, name


def test_the_page_of_the_networks_has_all_of_them():
    text = (ROOT / "docs" / "reference" / "networks.md").read_text("utf-8")
    rows = re.findall(
        r"^\| (\S+) \| (\d+) \| (\d+)x\d+ \| ([\d,]+) \| (\S+) \| (\S+) M", text, re.M
    )
    assert [tuple(row) for row in rows] == [
        (
            name,
            str(network.depth),
            str(network.input_size),
            f"{network.classes:,}",
            f"{network.parameters().trainable:,}",
            f"{network.multiply_adds() / 1e6:,.1f}",
        )
        for group in architectures.FAMILY
        for name, network in group.networks.items()
    ]


@named([*TEMPLATES, *PAGES])
def test_code_that_is_not_run_is_marked_so(page):
    text = page.read_text("utf-8")
    for language in NOT_RUN:
        for match in re.finditer(rf"^```{language}$", text, re.MULTILINE):
            heading = text.rfind("\n## ", 0, match.start())
            assert "not run" in text[heading : match.start()].lower(), (page, language)


def photographs(folder):
    """A folder of small images, which are easy to tell apart: each class has a hue."""
    generator, picture = np.random.default_rng(0), None
    for index, label in enumerate(CLASSES):
        (folder / label).mkdir(parents=True)
        color = generator.integers(40, 216, 3)
        for number in range(12):
            noise = generator.integers(-40, 40, (SIZE, SIZE, 3))
            picture = Image.fromarray((color + noise).astype(np.uint8))
            picture.save(folder / label / f"{index}-{number}.jpg")
    return picture


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What the pages take for granted: photographs, an image, runs, and others' weights."""
    folder = tmp_path_factory.mktemp("user")
    last = photographs(folder / "photos")
    for name in ("photo.jpg", "new.jpg"):
        last.save(folder / name)
    program(folder, "train", "resnet20", "--data", "photos", "--epochs", "1", "--run", "runs/a")
    for name in ("b", "c", "mine"):
        shutil.copytree(folder / "runs" / "a", folder / "runs" / name)
    create("resnet50v1.5").save(folder / "untrained.keras")
    to_theirs = ("--network", "resnet50v1.5", "-o", "model.safetensors")
    program(folder, "convert", "untrained.keras", *to_theirs)
    return folder


def program(folder, *arguments):
    """A command, in this process: most of a short one would be the start of TensorFlow."""
    with contextlib.chdir(folder):
        cli.main(list(arguments))


def runnable(page):
    return [
        re.sub(r"--epochs \d+", "--epochs 1", line)
        for line in "\n".join(blocks(page, "sh")).splitlines()
        if line.startswith("resnet-keras ") and not ELSEWHERE.search(line)
    ]


@pytest.mark.slow
@named([page for page in PAGES if runnable(page)])
def test_its_shell_blocks_run(page, place):
    for line in runnable(page):
        program(place, *words(line)[1:])


@pytest.mark.slow
@named([page for page in PAGES if blocks(page, "python") and page.parent.name != "export-page"])
def test_its_python_blocks_run(page, place, monkeypatch):
    """In order, as the cells of a notebook; what a page takes for granted is there.

    An export's own page is tried where exports are tested.
    """
    monkeypatch.chdir(place)
    pixels = np.random.default_rng(0).integers(0, 256, (24, SIZE, SIZE, 3)).astype(np.uint8)
    namespace = {
        "images": pixels[:2],
        "image": pixels[0],
        "class_names": CLASSES,
    }
    if page.name == "export.md":
        namespace |= exportable(pixels)
        one = {
            "onnx-float32": formats.FORMATS["onnx-float32"]
        }  # all are made where they are tested
        monkeypatch.setattr(formats, "FORMATS", one)
    if page == ROOT / "README.md":
        namespace |= short_fine_tuning(pixels, monkeypatch)
    for number, block in enumerate(blocks(page, "python"), 1):
        if page == ROOT / "README.md":
            block = block.replace('"imagenet"', '"mild.keras"')  # nothing is downloaded
        code = compile(block, f"{page.name}, block {number}", "exec")
        if '"imagenet"' not in block:
            exec(code, namespace)


def short_fine_tuning(pixels, monkeypatch):
    """Images for the README's export; one epoch of the head, and weights that do not overflow."""
    recipe = recipes.RECIPES["finetune"].in_epochs(1)
    monkeypatch.setitem(recipes.RECIPES, "finetune", replace(recipe, image_size=2 * SIZE))
    monkeypatch.setattr(formats, "FORMATS", {"onnx-float32": formats.FORMATS["onnx-float32"]})
    network = create("resnet50")
    for layer in network.layers:
        if re.fullmatch(r"bn\w+_branch2c", layer.name):
            layer.gamma.assign(0 * layer.gamma)
    network.save("mild.keras")
    larger = pixels.repeat(2, axis=1).repeat(2, axis=2)
    return {"images": larger, "labels": np.arange(len(larger)) % 6, "training_images": larger}


def exportable(pixels):
    """A classifier of two classes whose answers are no near ties."""
    from resnet_keras import build
    from resnet_keras.architectures import RESNET20
    from resnet_keras.networks.models import Classifier

    model = build(RESNET20, pixels.shape[1:], Classifier(2))
    head = model.layers[-1]
    head.set_weights([0.1 * weight for weight in head.get_weights()])
    probabilities = model.predict(pixels, verbose=0)
    return {
        "model": model,
        "test_images": pixels,
        "test_labels": probabilities.argmax(axis=1),
        "training_images": pixels,
    }


def test_the_page_of_an_export_is_as_exports_are_told_now():
    gathering = docs_script("gather_export")
    written = (gathering.FOLDER / "README.md").read_text("utf-8")
    assert written == gathering.page(gathering.FOLDER)


def test_the_map_of_the_code_names_every_wing_and_files_that_exist():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named_there = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:/|\.py))`", text))
    package = ROOT / "resnet_keras"
    wings = {f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").exists()}
    assert wings <= named_there
    missing = [
        one for one in named_there if not any((top / one).exists() for top in (package, ROOT))
    ]
    assert missing == []


@pytest.mark.slow
def test_the_site_is_built_strictly(tmp_path):
    pytest.importorskip("mkdocs", reason="it comes with the docs extra")
    finished = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", tmp_path],
        check=False,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in ROOT.glob("docs/**/*.md")}
    made = {path.relative_to(tmp_path).with_suffix("") for path in tmp_path.rglob("*.html")}
    assert made >= {page.with_name(page.name.replace("README", "index")) for page in pages}
    networks = (tmp_path / "reference" / "api" / "networks.html").read_text("utf-8")
    assert "def create" not in networks and "keras.applications" in networks
