"""Commands that write after long work find out before it whether they can, and what is damaged."""

import json
import os
import shutil
import subprocess

import kit
import pytest
from kit import command_refusal
from PIL import Image

from resnet_keras.evaluation import evaluate
from resnet_keras.training import train

pytestmark = pytest.mark.usefixtures("tiny_network")


@pytest.fixture(scope="module")
def read_only(tmp_path_factory):
    """A folder that nobody can write, with a finished run, one that is not, and a photograph."""
    folder = tmp_path_factory.mktemp("disk")
    for name in ("finished", "unfinished"):
        shutil.copytree(kit.finished_run().folder, folder / name)
    details = folder / "unfinished" / "run.json"
    details.write_text(json.dumps(json.loads(details.read_text()) | {"finished": False}))
    Image.fromarray(kit.draw_images(1)[0]).save(folder / "photo.png")
    if os.geteuid() == 0:  # to whom permissions mean nothing
        mounted = subprocess.run(["mount", "-o", "bind,ro", folder, folder], capture_output=True)
        if mounted.returncode:
            pytest.skip("this machine lets root mount nothing")
        yield folder
        subprocess.run(["umount", folder], check=True)
        return
    folders = [path for path in (folder, *folder.rglob("*")) if path.is_dir()]
    for path in folders:
        path.chmod(0o555)
    yield folder
    for path in folders:
        path.chmod(0o755)


def fail(*arguments, **options):
    raise AssertionError("the images were looked at first")


@pytest.mark.parametrize(
    "command",
    [
        "train tiny --recipe tests --run {}/new/run",
        "train tiny --recipe tests --run {}/unfinished",
        "train tiny --recipe tests --run {}/finished --start-over",
        "recipe show quick --output {}/new/mine.toml",
        "evaluate {}/finished",
        "evaluate {}/finished {}/unfinished --ensemble --output {}/together",
        "predict {}/photo.png --model {}/finished --explain",
        "reproduce degradation --output {}/studies",
        "export {}/finished --formats tflite-float32",
        "export {}/finished/best.keras --data digits",
        "convert {}/finished/best.keras --network tiny --output {}/model.keras",
    ],
)
def test_a_read_only_folder_is_noticed_before_the_work(read_only, command, monkeypatch):
    for module in (evaluate, train):
        monkeypatch.setattr(module, "check", fail)
    before = kit.contents(read_only)
    refused = command_refusal(*command.replace("{}", str(read_only)).split())
    assert "cannot be written" in refused and str(read_only) in refused
    assert kit.contents(read_only) == before


@pytest.mark.parametrize("name", ["history.csv", "speed.csv", "evaluation-ten-crop.json"])
def test_a_report_that_cannot_be_made_is_noticed_before_the_measuring(tmp_path, name, monkeypatch):
    monkeypatch.setattr(evaluate, "check", fail)
    shutil.copytree(kit.finished_run().folder, tmp_path / "run")
    (tmp_path / "run" / name).write_text("epoch,images_per_second\n1,")
    before = kit.contents(tmp_path)
    assert name in command_refusal("evaluate", tmp_path / "run")
    assert kit.contents(tmp_path) == before


def test_a_history_that_lacks_epochs_is_noticed_before_the_measuring(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "check", fail)
    shutil.copytree(kit.finished_run().folder, tmp_path / "run")
    history = tmp_path / "run" / "history.csv"
    history.write_text("".join(history.read_text("utf-8").splitlines(True)[:-1]), "utf-8")
    assert "history.csv" in command_refusal("evaluate", tmp_path / "run")


def test_a_finished_run_in_a_read_only_folder_is_told(read_only, capsys):
    kit.cli.main(["train", "tiny", "--recipe", "tests", "--run", str(read_only / "finished")])
    assert "is finished" in capsys.readouterr().out
