"""Generated calls of the command line end in one line and status 2, and leave the disk alone."""

import contextlib
import io

import kit
import numpy as np
from damage import CASES, COUNTS

from resnet_keras import cli
from resnet_keras.cli.arguments import options_of

CALLS = 4 * CASES

# No name of a dataset or of published weights among them, and no "train" for launch: with such a
# call a command would begin to work. "--hosts" starts a process, which test_launch.py does.
NUMBERS = (
    *("0", "-1", "1", "3", "9" * 23, "9" * 5000, "1e308", "inf", "-inf", "nan", "1.5", "0x10"),
    *("1_0", "+2", "-0", "\u0663", "1e-400", "2,5", "7 "),
)
PATHS = (
    *("", ".", "..", "/", "~", "~nobody/x", "nowhere", "folder", "empty.txt", "text.png", "x.h5"),
    *("x.keras", "folder.keras", "empty.txt/x", "/dev/null", "loop", "a" * 300, "b/" * 3000),
    *("x.safetensors", "y.keras", "nowhere.keras", "runs/x", "folder/../nowhere.pth"),
)
WORDS = (
    *(
        "resnet20",
        "resnet51",
        "quick",
        "digit",
        "yes",
        "no",
        "A",
        "single",
        "multi-scale",
        "tflite",
    ),
    *(
        "a\nb",
        "d\u00f6g",
        "\u202e\U0001f600",
        "\udcff",
        "'",
        '"',
        "a b",
        "$(x)",
        "%s",
        "{}",
        "[/b]",
    ),
    *(
        "-",
        "--",
        "---",
        "-x",
        "-o",
        "-n",
        "--=",
        "=",
        "--frobnicate",
        "--Epochs",
        "—epochs",
        "None",
    ),
)


FLAGS = (
    *("--start-over", "--skip-bad-images", "--recompute", "--no-log-diagnostics"),
    *("--ensemble", "--explain"),
)
OF_PATHS = ("--run", "--weights", "--output", "-o", "--model", "--class-names")
OF_WORDS = (
    *("--data", "--recipe", "--precision", "--shortcut", "--freeze", "--freeze-bn", "--network"),
    *("--protocol", "--class", "--scale", "--formats"),
)
WELL_FORMED = {
    "list": ["nothing"],
    "recipe": ["show", "nowhere.toml"],
    "train": ["resnet20"],
    "launch": ["evaluate"],
    "evaluate": ["nowhere"],
    "predict": ["text.png", "--model", "nowhere"],
    "reproduce": ["depth"],
    "convert": ["x.h5", "--network", "resnet20", "--output", "y.keras"],
    "export": ["nowhere"],
    "serve": ["folder"],
}


def draw(rng, of):
    return of[rng.integers(len(of))]


def arguments_of(rng):
    """A call: what its command needs, options of it, and here and there something else."""
    if rng.random() < 0.05:
        return [draw(rng, WORDS), draw(rng, PATHS)]
    command = draw(rng, list(WELL_FORMED))
    options = [one for one in options_of(cli.COMMANDS[command], True) if one != "--hosts"]
    arguments = [
        draw(rng, PATHS + WORDS) if rng.random() < 0.1 else one for one in WELL_FORMED[command]
    ]
    for _ in range(rng.integers(4) if options else 0):
        arguments += option_of(rng, draw(rng, options))
    if rng.random() < 0.2:
        arguments.insert(rng.integers(len(arguments) + 1), draw(rng, PATHS + WORDS))
    if command in ("train", "reproduce"):
        arguments += ["--data", "nowhere"]
    return [command, *arguments]


def option_of(rng, option):
    """An option, mostly with a value of its kind."""
    if option in FLAGS:
        return [option]
    of = PATHS if option in OF_PATHS else WORDS if option in OF_WORDS else NUMBERS
    value = draw(rng, of if rng.random() < 0.8 else NUMBERS + PATHS + WORDS)
    forms = ([option, value], [f"{option}={value}"])
    if rng.random() < 0.1:
        forms = ([option], [option.replace("-", "_").replace("__", "--"), value], [option[:-1]])
    return draw(rng, forms)


def fault_of(arguments):
    """What is wrong with how the command line answers arguments; None if nothing is."""
    stderr, status = io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(stderr):
            cli.main(arguments)
    except SystemExit as end:
        status = end.code
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.200}"
    if status == 0 and arguments[0] in ("list", "recipe"):
        return None
    told = stderr.getvalue()
    is_refusal = told.startswith("resnet-keras: error: ") and told.count("\n") == 1
    return None if status == 2 and is_refusal else f"status {status}: {told[:300]!r}"


def test_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.keras").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty.txt").touch()
    for name in ("text.png", "x.h5", "x.keras", "x.safetensors"):
        (tmp_path / name).write_text("no such thing", "utf-8")
    before = kit.contents(tmp_path), sorted(tmp_path.rglob("*"))
    faults = []
    for case in range(CALLS):
        arguments = arguments_of(np.random.default_rng(case))
        if fault := fault_of(arguments):
            faults.append(f"case {case}: {arguments!a:.300}: {fault}")
    COUNTS["tried"] += CALLS
    COUNTS["failed"] += len(faults)
    assert not faults, "\n".join([f"{len(faults)} of {CALLS} calls", *faults[:20]])
    assert (kit.contents(tmp_path), sorted(tmp_path.rglob("*"))) == before
