"""The command line, as a user types it."""

import json
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import keras
import kit
import numpy as np
import pytest
from kit import PROGRAM, TRAIN, command_refusal
from PIL import Image
from sample_images import deep_grey

import resnet_keras
from resnet_keras import architectures, cli, load_model, recipes, studies, train
from resnet_keras.architectures.networks import SHORTCUT_OPTIONS
from resnet_keras.cli import console
from resnet_keras.cli.arguments import options_of
from resnet_keras.data import cache
from resnet_keras.evaluation import protocols
from resnet_keras.evaluation.evaluate import read_evaluation
from resnet_keras.export import formats
from resnet_keras.runs.run import Run

pytestmark = pytest.mark.usefixtures("tiny_network")


def run_program(*arguments, cwd=None):
    """Runs the installed program in a process of its own."""
    environment = {name: os.environ[name] for name in os.environ if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [*PROGRAM, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def trained():
    """A folder in which `resnet-keras train` was run, and what it printed; not to be changed."""
    return kit.finished_training()


BAD_ARGUMENTS = [
    (["frobnicate"], "frobnicate", "train, "),
    (["--frobnicate"], "--frobnicate", "train, "),
    ([], "none", "train, "),
    (["train"], "train", "NETWORK"),
    (["train", "--netwrok", "resnet20"], "--netwrok", "--data, "),
    (["train", "resnet20", "--epoch", "3"], "--epoch", "did you mean --epochs"),
    (["train", "resnet20", "--epochs"], "none", "--epochs INT"),
    (["train", "resnet20", "--epochs", "x"], "'x'", "a whole number"),
    (["train", "resnet20", "resnet32"], "resnet32", "train --help"),
    (["train", "resnet20", "--start-over=yes"], "yes", "train --help"),
    (["convert", "x"], "convert x", "--network NETWORK and --output FILE"),
    (["reproduce", "depth", "--scale", "ful"], "'ful'", "did you mean full"),
    (["evaluate", "x", "--scales", "4", "z", "--ensemble"], "'4' 'z'", "whole numbers"),
    (["--tyro-print-completion", "csh"], "csh", "bash"),
    (["list", "resnet51"], "resnet51", "resnet56"),
    (["recipe"], "recipe", "list,show"),
    (["recipe", "shwo", "quick"], "'shwo'", "did you mean show"),
    (["recipe", "show"], "none", "recipe show NAME_OR_FILE"),
    (["recipe", "list", "quick"], "quick", "recipe list"),
    (["train", "resnet20", "--freeze-bn", "maybe"], "'maybe'", "yes, no"),
    (["train", "resnet20", "--recipe.ema", "x"], "'x'", "a number"),
    (["train", "resnet20", "--recipe.optimizr", "lamb"], "--recipe.optimizr", "--recipe.optimizer"),
    (["train", "resnet20", "--shortcut", "None"], "'None'", "A, B, C"),
    (["train", "resnet20", "--epochs", "0"], "0", "1"),
    (["train", "resnet20", "--learning-rate", "-1"], "-1", "0"),
    (["train", "resnet20", "--seed", "9" * 23], "9" * 23, "4,294,967,295"),
    (["train", "resnet20", "--image-size", "100000"], "100000", "8,192"),
    (["train", "resnet20", "--l2", "inf"], "inf", "1000"),
    (["train", "resnet20", "--stage-decay", "1e308"], "1e+308", "100"),
    (["train", "resnet20", "--checkpoint-steps", "0"], "0", "1"),
    (["train", "resnet20", "--devices", "-2"], "-2", "1"),
    (["launch", "-n", "100000", "train", "resnet20"], "100000", "256"),
    (["evaluate", "x", "--protocol", "multi-scale", "--scales", "9" * 9], "9" * 9, "8,192"),
    (["reproduce", "depth", "--seeds", "0"], "0", "1,000"),
    (["serve", "x", "--port", "70000"], "70000", "65,535"),
    (["export", "x", "--images", "0"], "0", "1"),
    (["predict", "x.png", "--model", "x", "--top", "0"], "0", "1"),
    (["train", "resnet20", "--head-epochs", "-1"], "-1", "0"),
    (
        ["convert", "x.h5", "--network", "resnet50", "-o", "y.keras", "--image-size", "0"],
        "0",
        "8,192",
    ),
]

BAD_INPUT = [
    (["train", "resnet51"], "resnet51", "resnet56"),
    (["train", "resnet20", "--recipe", "quik"], "quik", "quick"),
    (["train", "resnet20", "--recipe", "nowhere.toml"], "nowhere.toml", "recipe show"),
    (["recipe", "show", "nowhere.toml"], "nowhere.toml", "recipe show"),
    (["train", "resnet20", "--weights", str(kit.TESTS / "kit.py")], "kit.py", ".safetensors"),
    (["train", "resnet20", "--weights", str(kit.TESTS)], "tests", "best.keras"),
    (["train", "resnet20", "--data", "mnis"], "mnis", "tfds:NAME"),
    (["train", "resnet20", "--shortcut", "D"], "D", "A"),
    (["train", "plain20", "--shortcut", "A"], "plain20", ""),
    (["train", "resnet20", "--precision", "bf16"], "bf16", "mixed_bfloat16"),
    (["train", "resnet50", "--image-size", "16"], "16x16", "32x32"),
    (["train", "resnet20", "--run", "/proc/run"], "/proc/run", ""),
    (["evaluate", "nowhere"], "nowhere", ""),
    (["evaluate"], "none", ""),
    (["evaluate", "x", "--protocol", "tencrop"], "tencrop", "ten-crop"),
    (["evaluate", "x", "--scales", "9"], "9", "multi-scale"),
    (["evaluate", "x", "--protocol", "multi-scale", "--scales", "0"], "(0,)", "1"),
    (["evaluate", "x", "--output", "y"], "y", "--ensemble"),
    (["evaluate", "nowhere", "--ensemble"], "nowhere", ""),
    (["predict", "--run", "x.keras"], "none", ""),
    (["train", "resnet20", "--run", ""], "--run ''", "a text"),
    (["train", "resnet20", "--lr", "0.1"], "--lr", "--learning-rate"),
    (["predict", ".", "--run", "x.keras"], "it is empty", ".jpg"),
    (["predict", "x.png", "--run", "nowhere"], "nowhere", ""),
    (["train", "resnet20", "--recipe", "finetune"], "no weights", "--weights"),
    (["train", "resnet20", "--weights", "x.pt"], "x.pt", "imagenet"),
    (["convert", "x.h5", "--network", "resnet51", "-o", "y.keras"], "resnet51", "resnet"),
    (["convert", "x.h5", "--network", "resnet50", "-o", "y.onnx"], "y.onnx", ".safetensors"),
    (["convert", "x.h5", "--network", "resnet50", "-o", "y.keras"], "x.h5", ""),
    (["export"], "runs/", "run folder"),
    (["export", "nosuch"], "nosuch", "run folder"),
    (["export", "x", "--formats", "tflite"], "'tflite'", "saved-model"),
    (["export", "x.keras", "--data", "digits"], "x.keras", ".keras"),
    (["serve", "nosuch"], "nosuch", "export"),
    (["reproduce", "depht"], "'depht'", "depth"),
    (["reproduce", "depth", "--data", "nowhere"], "'nowhere'", "tfds:NAME"),
    (["train", "resnet20", "--head-epochs", "2"], "no weights", "--weights"),
    (["train", "resnet20", "--weights", "imagenet"], "'resnet20'", "resnet50"),
    (["convert", "imagenet", "--network", "resnet20", "-o", "y.keras"], "resnet20", "resnet50"),
]

WITHOUT_FRAMEWORK = r"""
import contextlib, io, json, os, pickle, sys
from pathlib import Path
from resnet_keras import architectures, recipes
from resnet_keras.cli import main
from resnet_keras.files.atomic import write_text
from resnet_keras.training.precision import Machine, decide

shown, refused = json.loads(sys.argv[1])
tiny, tests, train, place = pickle.loads(bytes.fromhex(sys.argv[2]))
for arguments in shown:
    sys.argv[1:] = arguments
    with contextlib.suppress(SystemExit):
        main()
for arguments in refused:
    with contextlib.redirect_stderr(io.StringIO()) as told:
        try:
            main(arguments)
        except SystemExit as end:
            assert end.code == 2, arguments
    assert len(told.getvalue().splitlines()) == 1, arguments
decide(Machine("tensorflow"))
write_text(Path("text"), "d\u00f6g \udcff")
assert Path("text").read_text("utf-8") == "d\u00f6g " + r"\udcff"
architectures.NETWORKS["tiny"], recipes.RECIPES["tests"] = tiny, tests
os.chdir(place)
sys.argv[1:] = train
main()
loaded = {"tensorflow", "keras", "jax"} & set(sys.modules)
assert not loaded, loaded
"""


def test_what_needs_no_framework_imports_none(trained, tmp_path):
    """One fresh interpreter for all: help, list, refusals, precision, and a run that is finished.

    It has no home, and knows ASCII alone.
    """
    finished = pickle.dumps((kit.TINY, kit.RECIPE, TRAIN, trained[0]))
    shown = [["--help"], ["list"], *([command, "--help"] for command in cli.COMMANDS)]
    (tmp_path / "damaged.keras").write_text("PK")
    refused = [
        *(arguments for arguments, *_ in BAD_INPUT),
        ["export", "damaged.keras", "--data", "digits"],
        ["train", "resnet50", "--weights", "damaged.keras"],
        ["convert", "damaged.keras", "--network", "resnet50", "-o", "y.keras"],
    ]
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    printed = kit.run(
        sys.executable,
        *("-c", WITHOUT_FRAMEWORK, json.dumps([shown, refused]), finished.hex()),
        cwd=tmp_path,
        HOME="/nowhere",
        XDG_CACHE_HOME=str(cache.folder().parent),
        **ascii_only,
    )
    assert "runs/one is finished: 2 epochs" in printed and "test accuracy" in printed
    assert printed.isascii() and printed.count("usage: resnet-keras") == 1 + len(cli.COMMANDS)


def test_list_shows_parameters_and_multiply_adds(capsys):
    cli.main(["list"])
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines if line.endswith(" M")]
    assert names == [name for group in architectures.FAMILY for name in group.networks]
    for group in architectures.FAMILY:
        assert group.title in lines and group.purpose in lines
    (resnet50,) = (line for line in lines if line.startswith("resnet50 "))
    assert "25,557,032" in resnet50 and "3,858.0 M" in resnet50


def test_the_version(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out == f"{resnet_keras.__version__}\n"


def test_list_by_pattern(capsys):
    cli.main(["list", "*v1.5"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith(" M")] == [
        "resnet50v1.5",
        "resnet101v1.5",
        "resnet152v1.5",
    ]
    assert sum(line.startswith("network ") for line in lines) == 1


@pytest.mark.parametrize(("arguments", "received", "accepted"), BAD_ARGUMENTS + BAD_INPUT)
def test_bad_input_is_one_line_and_status_2(monkeypatch, tmp_path, arguments, received, accepted):
    monkeypatch.chdir(tmp_path)
    _, _, told = command_refusal(*arguments).partition(" Received: ")
    assert received in told.partition(";")[0] and accepted in told.partition(";")[2]
    assert list(tmp_path.iterdir()) == []


def test_train_ends_with_error_folder_and_next_commands(trained):
    folder, output = trained
    *_, accuracy, top5, hardest, run, _, heading, report, curves, predict, export = (
        output.splitlines()
    )
    evaluation = json.loads((folder / "runs/one/evaluation.json").read_text())
    low, high = (f"{1 - error:.2%}" for error in reversed(evaluation["top1_interval"]))
    assert (
        f"{1 - evaluation['top1_error']:.2%} (95% confidence interval {low} to {high})" in accuracy
    )
    assert f"{1 - evaluation['top5_error']:.2%} " in top5
    assert re.fullmatch(r"lowest accuracy by class: \d \d+\.\d%, \d .*, \d .*", hardest)
    assert run == "run folder: runs/one"
    assert heading == "next:"
    assert report.endswith(f" -m webbrowser {(folder / 'runs/one/report.html').as_uri()}")
    assert "tensorboard --logdir runs/one/tensorboard --host 127.0.0.1" in curves
    assert export.endswith("export runs/one")
    assert predict.endswith("predict --model runs/one runs/one/examples/*.png")
    page = (folder / "runs/one/report.html").read_text("utf-8")
    assert '>augmentation.crop.pad</th><td class="name">0.125</td>' in page
    assert "{" not in page.split("<main>")[1] and "<td>0.00000</td>" not in page
    assert "precision: " in output
    counts = "1,257 training, 180 validation and 360 test images"
    assert f"dataset: 10 classes (0 to 9); {counts}" in output


def test_commands_to_type_are_quoted_for_a_shell(capsys):
    place = Path("my runs", "it's $HOME; ls *")
    told = console.command("resnet-keras", "predict", "--model", place)
    assert shlex.split(told)[1:] == ["predict", "--model", str(place)]
    console.print_next(place / "report.html")
    page = shlex.split(capsys.readouterr().out)[-1]
    assert unquote(urlsplit(page).path) == str((place / "report.html").absolute())


def test_a_finished_run_tells_how_to_train_on(trained, monkeypatch):
    monkeypatch.chdir(trained[0])
    line = command_refusal(*TRAIN, "--epochs", "3")
    assert "--weights runs/one --run" in line and "warmup" not in line


def test_a_mistyped_run_is_guessed(trained, monkeypatch):
    monkeypatch.chdir(trained[0])
    assert "did you mean 'runs/one'?" in command_refusal("evaluate", "runs/ones")
    line = command_refusal("train", "tiny", "--weights", "runs/oen")
    assert "did you mean 'runs/one'?" in line


def test_an_export_is_no_run(trained, tmp_path, monkeypatch):
    shutil.copytree(trained[0] / "runs/one", tmp_path / "run")
    (tmp_path / "run" / "export").mkdir()
    (tmp_path / "run" / "export" / "parity.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert "run/export" in command_refusal("export", "run/export")
    Image.new("RGB", (8, 8)).save("photo.png")
    line = command_refusal("predict", "photo.png", "--model", "run/export")
    assert re.search(r"accepted: .*\brun$", line), line


def test_train_again_does_nothing(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained[0])
    before = {path: path.stat().st_mtime_ns for path in trained[0].rglob("*")}
    cli.main(TRAIN)
    output = capsys.readouterr().out
    assert "2 epochs" in output and "test accuracy" in output
    assert {path: path.stat().st_mtime_ns for path in trained[0].rglob("*")} == before


def test_a_run_has_its_recipe_ready_to_be_given_again(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained[0] / "runs", "runs")
    again = ("train", "tiny", "--recipe", "runs/one/recipe.toml", "--run", "runs/one")
    cli.main(again)
    assert "is finished: 2 epochs" in capsys.readouterr().out
    recipe = Path("runs/one/recipe.toml")
    text = recipe.read_text("utf-8").replace("learning_rate = 0.1", "learning_rate = 0.2")
    recipe.write_text(text, "utf-8")
    assert "0.2" in command_refusal(*again)
    recipe.write_text("epochs = 0", "utf-8")
    assert "runs/one/recipe.toml" in command_refusal(*again)


@pytest.mark.slow
def test_the_recipe_of_a_run_gives_the_same_weights(trained, tmp_path):
    run = trained[0] / "runs/one"
    train("tiny", "digits", str(run / "recipe.toml"), tmp_path / "again", verbose=0)
    one, again = (load_model(folder / "last.keras") for folder in (run, tmp_path / "again"))
    for ours, theirs in zip(one.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_help_tells_commands_by_the_first_line_of_theirs():
    for name, command in cli.COMMANDS.items():
        assert cli.COMMANDS.summary(name) == command.__doc__.splitlines()[0]


def words(text):
    return set(re.findall(r"[\w.-]+", text))


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("train", [*recipes.RECIPES, *SHORTCUT_OPTIONS]),
        ("reproduce", studies.STUDIES),
        ("evaluate", protocols.NAMES),
        ("export", formats.FORMATS),
        ("list", words(" ".join(one.title.split(" (")[0] for one in architectures.FAMILY))),
    ],
)
def test_help_has_every_name_of_its_table(command, names, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    shown = {word.rstrip(".") for word in words(capsys.readouterr().out)}
    assert {name.rstrip(".") for name in names} <= shown


@pytest.mark.slow
def test_help_fits_a_screen(capsys):
    for arguments in ([], *([command] for command in cli.COMMANDS)):
        with pytest.raises(SystemExit):
            cli.main([*arguments, "--help"])
        shown = capsys.readouterr().out
        assert len(shown.splitlines()) <= (45 if "train" in arguments else 30), arguments
        assert not arguments or "resnet-keras" in shown.partition("Example:")[2], arguments


def test_all_options_are_in_the_help_of_all(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help-all"])
    shown = set(re.findall(r"--[\w.-]+", capsys.readouterr().out))
    known = options_of(cli.COMMANDS["train"], with_hidden=True)
    assert shown >= {option for option in known if len(option) < 24}  # others are folded


def test_recipes_are_listed_and_shown(capsys, tmp_path):
    cli.main(["recipe", "list"])
    listed = capsys.readouterr().out
    for name, preset in recipes.PRESETS.items():
        assert f"{name}: {preset.purpose}" in listed
    cli.main(["recipe", "show", "rsb-a3"])
    shown, path = capsys.readouterr().out, tmp_path / "mine.toml"
    cli.main(["recipe", "show", "rsb-a3", "-o", str(path)])
    assert path.read_text("utf-8") == shown
    assert recipes.find(path) == recipes.RECIPES["rsb-a3"]
    assert "exists" in command_refusal("recipe", "show", "quick", "-o", path)
    assert path.read_text("utf-8") == shown


def test_long_names_of_classes_are_cut(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "a very long name " * 20
    named = ("--class-names", "names.txt", "--image-size", "8")
    names = "\n".join(f"{name}{number}" for number in range(10))
    Path("names.txt").write_text(names, "utf-8")
    run = str(trained[0] / "runs/one")
    cli.main(["convert", run, "--network", "tiny", "-o", "long.keras", *named])
    image = str(trained[0] / "runs/one/examples/7.png")
    cli.main(["predict", image, "--model", "long.keras"])
    assert max(map(len, capsys.readouterr().out.splitlines())) < 150


@pytest.mark.slow
def test_start_over_keeps_the_run_that_was_there(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained[0] / "runs", "runs")
    cli.main([*TRAIN, "--epochs", "1", "--no-log-diagnostics", "--start-over"])
    assert "runs/one.old-1" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["one", "one.old-1"]


def test_a_refused_start_over_moves_nothing(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained[0] / "runs", "runs")
    assert "2x2" in command_refusal(*TRAIN, "--image-size", "2", "--start-over")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["one"]


@pytest.mark.slow
def test_train_evaluate_predict_as_programs(tmp_path):
    options = ("--epochs", "1", "--image-size", "8", "--precision", "float32")
    trained = run_program("train", "resnet20", *options, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert trained.stderr == ""
    run = tmp_path / "runs" / "resnet20-digits-quick"
    assert run_program("evaluate", run).returncode == 0
    predicted = run_program("predict", run / "examples" / "7.png", "--run", run)
    assert len(predicted.stdout.splitlines()) == 1 + 5


@pytest.mark.slow
def test_evaluate_measures_again(trained, capsys, monkeypatch):
    monkeypatch.chdir(trained[0])
    before = (trained[0] / "runs/one/evaluation.json").read_text()
    cli.main(["evaluate", "runs/one"])
    assert "test accuracy" in capsys.readouterr().out
    assert (trained[0] / "runs/one/evaluation.json").read_text() == before


@pytest.mark.slow
def test_evaluate_by_other_protocols_keeps_what_was_there(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained[0] / "runs", "runs")
    run = tmp_path / "runs" / "one"
    before = (run / "evaluation.json").read_bytes()
    cli.main(["evaluate", "runs/one", "--protocol", "ten-crop"])
    cli.main(["evaluate", "runs/one", "--protocol", "multi-scale", "--scales", "8", "10"])
    assert (run / "evaluation.json").read_bytes() == before
    measured = json.loads((run / "evaluation-multi-scale.json").read_text())
    assert measured["scales"] == [8, 10]
    low, high = measured["top1_interval"]
    assert f"interval {1 - high:.2%} to {1 - low:.2%})" in capsys.readouterr().out
    page = (run / "report.html").read_text()
    for title in ("single", "ten-crop", "multi-scale 8 10"):
        assert f"Confusion matrix, {title}" in page and f'class="name">{title}</th>' in page


@pytest.mark.slow
def test_evaluate_compares_runs_and_averages_them(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained[0] / "runs" / "one", "runs/one")
    shutil.copytree(trained[0] / "runs" / "one", "runs/two")
    accuracy = 1 - json.loads((tmp_path / "runs/one/evaluation.json").read_text())["top1_error"]
    cli.main(["evaluate", "runs/one", "runs/two"])
    table = capsys.readouterr().out
    for name in ("runs/one", "runs/two"):
        (line,) = (line for line in table.splitlines() if line.startswith(f"{name} "))
        assert line.split()[1:3] == ["360", f"{accuracy:.2%}"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["one", "two"]
    cli.main(["evaluate", "runs/one", "runs/two", "--ensemble"])
    output = capsys.readouterr().out
    (line,) = (line for line in output.splitlines() if line.startswith("ensemble  "))
    assert f"360 {accuracy:.2%}" in " ".join(line.split())  # a network agrees with itself
    (folder,) = (tmp_path / "runs").glob("ensemble-tiny-single-*")
    assert sorted(path.name for path in folder.iterdir()) == ["ensemble.json", "report.html"]


def test_runs_on_different_images_are_in_tables_of_their_own(trained, capsys):
    run = Run(trained[0] / "runs/one")
    details, errors = run.read_details(), kit.known(read_evaluation(run))
    photos = replace(details, data="photos", fingerprint="0123")
    rows = [(Run("a"), details, errors), (Run("b"), photos, errors), (Run("c"), details, errors)]
    console.print_comparisons(rows)
    lines = capsys.readouterr().out.splitlines()
    headings = [lines[at - 1].split(",")[0] for at, line in enumerate(lines) if line[:4] == "run "]
    assert headings == ["digits", "photos"]
    assert [line[0] for line in lines if " 360 " in line] == ["a", "c", "b"]
    assert sum("different test images" in line for line in lines) == 1
    console.print_comparisons(rows[::2])
    assert "different test images" not in capsys.readouterr().out


def test_evaluate_refuses_before_it_measures(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained[0] / "runs" / "one", "runs/one")
    shutil.copytree(trained[0] / "runs" / "one", "runs/two")
    (tmp_path / "runs/two/best.keras").unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    for arguments, word in (
        (["runs/one", "runs/two"], "runs/two/best.keras"),
        (["runs/one", "runs/two", "--ensemble"], "runs/two/best.keras"),
        (["runs/one", "./runs/one", "--ensemble"], "runs/one"),
        (["runs/one", "./runs/one"], "runs/one and runs/one"),
        (["runs/one", "--ensemble"], "two"),
        (["runs/one", "--protocol", "multi-scale", "--scales", "1"], "4"),
    ):
        assert word in command_refusal("evaluate", *arguments)
    shutil.copy("runs/one/best.keras", "runs/two/best.keras")
    into = ("--ensemble", "--output", "runs/one")
    assert "runs/one" in command_refusal("evaluate", "runs/one", "runs/two", *into)
    (tmp_path / "runs/two/best.keras").unlink()
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_evaluate_on_photographs_of_many_sizes(tiny_network, tmp_path, monkeypatch, capsys):
    """Wide red ones and tall blue ones, which any view tells apart."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name, channel in (("red", 0), ("blue", 2)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(60):
            pixels = generator.integers(0, 90, (*generator.integers(6, 40, 2), 3), np.uint8)
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(f"photos/{name}/{number}.png")
    (tmp_path / "photos" / "red" / "film.mov").touch()
    options = ("--epochs", "4", "--image-size", "8", "--batch-size", "16", "--run", "runs/photos")
    cli.main(["train", "tiny", "--data", "photos", *options])
    assert "1 .mov" in capsys.readouterr().out.splitlines()[0]
    assert "1 .mov" in Path("runs/photos/report.html").read_text("utf-8")
    for protocol in ("single", "ten-crop", "multi-scale"):
        capsys.readouterr()
        cli.main(["evaluate", "runs/photos", "--protocol", protocol])
        assert "test accuracy 100.00%" in capsys.readouterr().out


def test_predict_takes_any_image(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    names = []
    for mode, name in (
        ("RGB", "photo.jpg"),
        ("L", "grey.png"),
        ("RGBA", "alpha.png"),
        ("RGB", "photo.webp"),
    ):
        channels = Image.new(mode, (1, 1)).getbands()
        pixels = generator.integers(0, 256, (37, 53, len(channels)), np.uint8)
        Image.fromarray(pixels.squeeze()).save(name)
        names.append(name)
    cli.main(["predict", *names, "--run", str(trained[0] / "runs/one"), "--top", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[::4] == names
    for start in range(0, len(lines), 4):
        shares = [float(line.split()[0].rstrip("%")) for line in lines[start + 1 : start + 4]]
        assert shares == sorted(shares, reverse=True) and sum(shares) <= 100.1
        assert all(line.split()[1] in "0123456789" for line in lines[start + 1 : start + 4])


def test_a_run_is_converted_and_a_model_file_predicts(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = str(trained[0] / "runs/one")
    cli.main(["convert", run, "--network", "tiny", "--image-size", "8", "-o", "a.safetensors"])
    names = "\n".join(f"digit {number}" for number in range(10))
    Path("names.txt").write_text(names, "utf-8-sig")
    named = ("--class-names", "names.txt", "--image-size", "8")
    cli.main(["convert", "a.safetensors", "--network", "tiny", "-o", "new/b.keras", *named])
    said = capsys.readouterr().out
    assert "classes: 10, 0 to 9" in said and "classes: 10, digit 0 to digit 9" in said
    assert "mean 125.3 123 113.9, standard deviation 63 62.1 66.7, " in said
    image = str(trained[0] / "runs/one/examples/7.png")
    cli.main(["predict", image, "--run", run])
    cli.main(["predict", image, "--model", "new/b.keras"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[6:] == [line.replace("%  ", "%  digit ") for line in lines[:6]]
    nowhere = ("-o", "c.keras", "--class-names", "nowhere")
    assert "nowhere" in command_refusal("convert", run, "--network", "tiny", *nowhere)
    for encoding in ("utf-16", "utf-16-le"):
        Path("new/wide.txt").write_text(names, encoding)
        wide = ("-o", "c.keras", "--class-names", "new/wide.txt")
        assert "UTF-8" in command_refusal("convert", run, "--network", "tiny", *wide)
    model = load_model("new/b.keras")
    keras.Model(model.input, model.layers[-2].output).save("trunk.keras")
    assert "trunk.keras" in command_refusal("predict", image, "--model", "trunk.keras")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.safetensors",
        "names.txt",
        "new",
        "trunk.keras",
    ]


def test_predict_refuses_what_is_no_image(trained, tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    run = trained[0] / "runs/one"
    assert "text.png" in command_refusal("predict", tmp_path / "text.png", "--run", run)


def test_predict_goes_through_a_folder_and_past_bad_images(trained, tmp_path, capsys):
    examples, run = trained[0] / "runs/one/examples", str(trained[0] / "runs/one")
    for name in ("b/7.png", "d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(examples / "7.png", tmp_path / name)
    for name in ("a.png", "c.jpg", "notes.txt"):
        (tmp_path / name).write_text("not an image")
    (tmp_path / "e.png").write_bytes(deep_grey(brightest=4095))
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(SystemExit) as end:
        cli.main(["predict", str(tmp_path), str(tmp_path / "gone.png"), "--run", run, "--top", "1"])
    assert end.value.code == 2
    printed = capsys.readouterr()
    ignored, dark, line = printed.err.splitlines()
    assert "1 .txt" in ignored and str(tmp_path / "e.png") in dark
    assert "4 of 7 images" in line
    assert all(f"{name} (" in line for name in ("a.png", "c.jpg", "pipe.png"))
    assert "gone.png (no such file)" in line
    assert [Path(one).name for one in printed.out.splitlines()[::2]] == ["7.png", "d.png", "e.png"]


def test_an_unknown_backend_is_told_in_a_line(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "foo")
    line = command_refusal("train", "resnet20", "--epochs", "1")
    assert "foo" in line and "tensorflow, jax" in line
