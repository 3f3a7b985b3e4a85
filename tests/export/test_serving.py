"""The phone page's server: which files it gives, to whom, and which folders it refuses."""

import io
import json
import re
import shutil
import signal
import socket
from pathlib import Path

import pytest
from kit import refusal
from phone import SERVE, ask, description, running, served
from PIL import Image

from resnet_keras.export import serving
from resnet_keras.export.serving import make_server

TYPES = {
    "": "text/html",
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}


@pytest.fixture(scope="module", autouse=True)
def runtimes(tmp_path_factory):
    """Stands in for the browser's runtimes, which npm brings; test_phone_page.py loads those."""
    folder = tmp_path_factory.mktemp("runtimes")
    with pytest.MonkeyPatch.context() as patch:
        for path in serving.RUNTIMES:
            file = folder / path.replace("/", "-")
            file.write_text(f"the text of {path}")
            patch.setitem(serving.RUNTIMES, path, file)
        yield


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "export"
    (folder / "check").mkdir(parents=True)
    (folder / "labels.txt").write_text("cat\ndögs & more\n", "utf-8")
    for name in ("model_float32.tflite", "model.onnx", *serving.CHECK_FILES):
        (folder / name).write_bytes(f"the bytes of {name}".encode())
    (folder / "parity.json").write_text("{}")
    (folder.parent / "secret.tflite").write_text("not to be had")
    return folder


@pytest.fixture
def port(folder):
    with running(folder) as server:
        yield server.server_port


# --- what is given ---


def test_the_export_is_described_and_its_files_are_given(port, folder):
    offer = description(port)
    assert offer["labels"] == ["cat", "dögs & more"]
    assert [model["file"] for model in offer["models"]] == ["model_float32.tflite", "model.onnx"]
    for model in offer["models"]:
        status, headers, body = ask(port, f"/{model['url']}")
        assert (status, body) == (200, (folder / model["file"]).read_bytes())
        assert len(body) == model["bytes"] == int(headers["Content-Length"])
    for name in ("images", "labels", "probabilities"):
        status, _, body = ask(port, f"/{offer['check']}{name}.npy")
        assert (status, body) == (200, f"the bytes of check/{name}.npy".encode())


def test_the_page_of_the_export_is_given_beside_its_files(port, folder):
    assert description(port)["page"] is None
    (folder / "index.html").write_text("of the export")
    offer = description(port)
    status, headers, body = ask(port, f"/{offer['page']}")
    assert (status, body, headers.get_content_type()) == (200, b"of the export", "text/html")
    # The links of the page are relative: they lead to the files.
    assert offer["page"].rpartition("/")[0] == offer["models"][0]["url"].rpartition("/")[0]


def test_an_export_without_held_out_images_offers_no_check(port, folder):
    (folder / "check/labels.npy").unlink()
    assert description(port)["check"] is None


def test_a_new_export_has_new_addresses(port, folder):
    before = description(port)
    (folder / "labels.txt").write_text("cow\nhorse\n")
    after = description(port)
    assert after["labels"] == ["cow", "horse"]
    assert before["version"] != after["version"]
    assert ask(port, f"/{before['models'][0]['url']}")[0] == 404
    assert ask(port, f"/{after['models'][0]['url']}")[0] == 200


def test_an_export_that_has_gone_is_not_found(port, folder):
    url = description(port)["models"][0]["url"]
    shutil.rmtree(folder)
    assert ask(port, "/export.json")[0] == ask(port, f"/{url}")[0] == 404


def test_every_file_of_the_page_is_given_with_its_type(port):
    for path in ("", *serving.PAGE, *serving.RUNTIMES):
        status, headers, body = ask(port, f"/{path}?from=home")
        assert status == 200 and body, path
        assert headers["Content-Type"].partition(";")[0] == TYPES[Path(path).suffix], path
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_the_list_of_the_page_is_the_folder_and_the_service_worker_keeps_it():
    of_npm = {".npmrc", "package.json", "package-lock.json"}
    there = {
        path.relative_to(serving.WEB).as_posix()
        for place in serving.WEB.iterdir()
        if place.name != "node_modules"
        for path in [place, *place.rglob("*")]
        if path.is_file()
    }
    assert set(serving.PAGE) == there - of_npm
    worker = (serving.WEB / "service-worker.js").read_text()
    shell = json.loads(re.search(r"SHELL = (\[.*?),\n\]", worker, re.DOTALL)[1] + "]")
    by_its_other_name = {"index.html": "./"}
    kept = {by_its_other_name.get(path, path) for path in serving.PAGE} - {"service-worker.js"}
    assert set(shell) == {*kept, "export.json"}


def test_nothing_else_is_given(port):
    version = description(port)["version"]
    for path in (
        "/export",
        "/export/",
        "/icons/",
        "/package.json",
        "/node_modules/onnxruntime-web/package.json",
        "/runtime/litert/index.js.map",
        "/../serving.py",
        "/%2e%2e/serving.py",
        "/icons/../../serving.py",
        f"/export/{version}/",
        f"/export/{version}/parity.json",
        f"/export/{version}/../secret.tflite",
        f"/export/{version}/%2e%2e%2fsecret.tflite",
        f"/export/{version}//etc/passwd",
        "/export/0123456789abcdef/model.onnx",
        "//etc/passwd",
        "/%00",
    ):
        assert ask(port, path)[0] == 404, path


def test_links_out_of_the_export_and_folders_are_no_models(folder, tmp_path):
    outside = tmp_path / "secret.tflite"
    (folder / "model_link.tflite").symlink_to(outside)
    (folder / "model_folder.tflite").mkdir()
    (folder / "inside.onnx").symlink_to(folder / "model.onnx")
    (folder / "check" / "labels.npy").unlink()
    (folder / "check" / "labels.npy").symlink_to(outside)
    with running(folder) as server:
        offer = description(server.server_port)
        files = [model["file"] for model in offer["models"]]
        assert files == ["model_float32.tflite", "inside.onnx", "model.onnx"]
        assert offer["check"] is None
        for name in ("model_link.tflite", "model_folder.tflite", "check/labels.npy"):
            assert ask(server.server_port, f"/export/{offer['version']}/{name}")[0] == 404
    (folder / "labels.txt").unlink()
    (folder / "labels.txt").symlink_to(outside)
    assert str(folder) in refusal(make_server, folder, 0).received


def test_labels_that_are_damaged_are_told(folder):
    with running(folder) as server:
        (folder / "labels.txt").write_bytes(b"d\xf6gs")
        status, _, body = ask(server.server_port, "/export.json")
        assert status == 500 and b"labels.txt" in body
    assert "labels.txt" in refusal(make_server, folder, 0).received


def test_idle_connections_end(folder, monkeypatch):
    monkeypatch.setattr(serving._Handler, "timeout", 0.05)
    with (
        running(folder) as server,
        socket.create_connection(("127.0.0.1", server.server_port)) as idle,
    ):
        idle.settimeout(5)
        assert idle.recv(1) == b""


def test_the_manifest_makes_it_installable(port):
    manifest = json.loads(ask(port, "/manifest.webmanifest")[2])
    assert manifest["name"] and manifest["start_url"] and manifest["display"] == "standalone"
    icons = {(icon["sizes"], icon["purpose"]): icon["src"] for icon in manifest["icons"]}
    assert set(icons) == {("192x192", "any"), ("512x512", "any"), ("512x512", "maskable")}
    for (sizes, _), source in icons.items():
        image = Image.open(io.BytesIO(ask(port, f"/{source}")[2]))
        assert image.format == "PNG" and "{}x{}".format(*image.size) == sizes


# --- to whom, and how ---


def test_only_this_machines_names_are_answered_to(port):
    statuses = {
        "localhost:9": 200,
        "127.0.0.1": 200,
        "evil.example": 403,
        "localhost.evil.example:8000": 403,
        "192.168.0.7:8000": 403,
        "[::bad": 403,
        "": 403,
    }
    assert {host: ask(port, "/export.json", Host=host)[0] for host in statuses} == statuses


def test_the_server_listens_to_this_machine_alone(folder):
    with running(folder) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_what_the_browser_has_is_not_sent_again(port):
    _, headers, _ = ask(port, "/style.css")
    assert headers["Cache-Control"] == "no-cache" and headers["Last-Modified"]
    again = {"If-None-Match": headers["ETag"]}
    assert ask(port, "/style.css", **again)[::2] == (304, b"")
    assert ask(port, "/page.js", **again)[0] == 200


def test_head_tells_the_length_and_sends_nothing(port):
    status, headers, body = ask(port, "/style.css", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) == (serving.WEB / "style.css").stat().st_size
    assert ask(port, "/nothing", method="HEAD")[::2] == (404, b"")


def test_nothing_is_received(port):
    assert ask(port, "/export.json", method="POST")[0] == 501


def test_ctrl_c_ends_it_quietly(folder):
    without_runtimes = SERVE.replace("s.serve(", "s.RUNTIMES.clear(); s.serve(")
    with served(folder, without_runtimes) as (address, process):
        port = re.fullmatch(r"http://localhost:(\d+)/", address)[1]
        assert f"adb reverse tcp:{port} tcp:{port}" in process.stdout.readline()
        assert description(int(port))["labels"]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""


# --- what is refused ---


def test_a_port_in_use_is_told(folder):
    with running(folder) as server:
        assert refusal(make_server, folder, server.server_port).received == str(server.server_port)


def test_a_port_that_cannot_be_is_told(folder):
    error = refusal(make_server, folder, 70000)
    assert error.received == "70000" and "65,535" in error.accepted


def test_what_is_no_export_is_told(folder, tmp_path):
    nowhere = tmp_path / "nowhere"
    assert refusal(make_server, nowhere, 0).received == str(nowhere)
    (folder / "labels.txt").unlink()
    error = refusal(make_server, folder, 0)
    assert error.received == str(folder) and "labels.txt" in error.accepted
    (folder / "model_float32.tflite").rename(folder / ".partial-model_float32.tflite")
    error = refusal(make_server, folder, 0)
    assert error.received == str(folder) and ".tflite" in error.accepted


def test_missing_runtimes_are_told_with_the_command(folder, monkeypatch, tmp_path):
    missing = tmp_path / "index.js"
    monkeypatch.setitem(serving.RUNTIMES, "runtime/litert/index.js", missing)
    error = refusal(make_server, folder, 0)
    assert str(missing) in error.received and "`make phone`" in error.accepted
