"""The phone page: an export tried in a browser, served to this machine alone."""

import errno
import hashlib
import io
import json
import shlex
import sys
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from urllib.parse import unquote, urlsplit

from resnet_keras.errors import PORTS, InputError, check_arguments
from resnet_keras.export.card import LABELS
from resnet_keras.export.manifest import CHECK, CHECK_ARRAYS, MANIFEST
from resnet_keras.files import structured
from resnet_keras.files.structured import JsonObject

ADDRESS = "127.0.0.1"
# What a browser on this machine calls it. A request by another name comes from a foreign page whose
# name server points here (DNS rebinding).
OWN_NAMES = ("127.0.0.1", "localhost")
IDLE_SECONDS = 60  # after which a connection that nothing comes from is closed

WEB = Path(__file__).parent / "web"
PAGE = (
    "check.html",
    "check.js",
    "export.js",
    "icons/icon-192.png",
    "icons/icon-512.png",
    "icons/icon-maskable-512.png",
    "icons/icon.svg",
    "images.js",
    "index.html",
    "manifest.webmanifest",
    "npy.js",
    "offline.js",
    "page.js",
    "runtimes.js",
    "service-worker.js",
    "style.css",
)

# Of the runtimes' packages, what a browser loads. LiteRT.js takes the build that the browser can
# run: with threads, without, or without relaxed SIMD.
MODULES = WEB / "node_modules"
LITERT_BUILDS = (
    "litert_wasm_threaded_internal.js",
    "litert_wasm_threaded_internal.wasm",
    "litert_wasm_internal.js",
    "litert_wasm_internal.wasm",
    "litert_wasm_compat_internal.js",
    "litert_wasm_compat_internal.wasm",
)
ONNX_RUNTIME = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
)
RUNTIMES = {
    "runtime/litert/index.js": MODULES / "@litertjs/core/dist/index.js",
    "runtime/litert/wasm-utils.js": MODULES / "@litertjs/wasm-utils/dist/index.js",
    **{f"runtime/litert/{name}": MODULES / "@litertjs/core/wasm" / name for name in LITERT_BUILDS},
    **{f"runtime/onnx/{name}": MODULES / "onnxruntime-web/dist" / name for name in ONNX_RUNTIME},
}

MODEL_SUFFIXES = (".tflite", ".onnx")
EXPORT_PAGE = "index.html"  # in the export folder, as page.py writes it
CHECK_FILES = tuple(f"{CHECK}/{name}.npy" for name in CHECK_ARRAYS)

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}

HEADERS = {
    # Threads in WebAssembly need a page that shares its process with no other site.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The photo stays on the device: there is nowhere that the page could send it to.
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
        "worker-src 'self' blob:; "
        "script-src 'self' blob: 'unsafe-inline' 'wasm-unsafe-eval'; form-action 'none'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "Permissions-Policy": "camera=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def serve(folder: Path, port: int) -> None:
    """Serves the phone page with an export, until Ctrl-C.

    Args:
        folder: of the export.
        port: of 127.0.0.1; 0 takes a free one.

    Raises:
        InputError: see `make_server`.
    """
    with make_server(folder, port) as server:
        print(_invitation(folder, server.server_port), flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


@check_arguments
def make_server(folder: Path, port: Annotated[int, PORTS]) -> ThreadingHTTPServer:
    """Opens the server, which answers as soon as its `serve_forever` runs.

    Args:
        folder: of the export. What is there when a file is asked for is served: a new export is
            seen at once.
        port: of 127.0.0.1; 0 takes a free one, which `server_port` tells.

    Raises:
        InputError: the folder holds no export, the browser's runtimes are not installed, or the
            port is not to be had.
    """
    _check_export(folder)
    _check_runtimes()
    try:
        return _Server((ADDRESS, port), partial(_Handler, folder))
    except OSError as error:
        reasons = {errno.EADDRINUSE: "in use", errno.EACCES: "not allowed"}
        if error.errno not in reasons:
            raise
        raise InputError(
            f"the port is {reasons[error.errno]}",
            received=port,
            accepted="another from 1024 to 65535, or 0 for any free one",
        ) from error


def _check_export(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(
            "no such export",
            received=folder,
            accepted="a folder that `resnet-keras export` has written",
        )
    if not any(path.suffix == ".tflite" for path in _models(folder)):
        raise InputError(
            "the folder has no model for phones",
            received=folder,
            accepted="a folder with a .tflite file, as `resnet-keras export` writes it",
        )
    if not _is_there(folder, LABELS):
        raise InputError(
            "the export does not name its classes",
            received=folder,
            accepted=f"a folder with {LABELS}, one class a line",
        )
    _labels(folder)
    _centre(folder)


def _check_runtimes() -> None:
    missing = [path for path in RUNTIMES.values() if not path.is_file()]
    if missing:
        raise InputError(
            "the browser's runtimes are not installed",
            received=f"no {missing[0]}",
            accepted=f"`make phone`, or `npm ci` in {shlex.quote(str(WEB))}",
        )


def _invitation(folder: Path, port: int) -> str:
    return (
        f"The phone page with {folder}, on this machine only; Ctrl-C ends it.\n"
        f"  in a browser here    http://localhost:{port}/\n"
        f"  on an Android phone  the same, after: adb reverse tcp:{port} tcp:{port}\n"
        "Browsers give the camera to https and to localhost only, which it then is there too."
    )


def _models(folder: Path) -> list[Path]:
    return [
        path
        for suffix in MODEL_SUFFIXES
        for path in sorted(folder.glob(f"[!.]*{suffix}"))
        if _is_there(folder, path.name)
    ]


def _is_there(folder: Path, name: str) -> bool:
    """Whether an export has a file of this name, and no link to what is elsewhere on the disk."""
    path = folder / name
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def describe(folder: Path) -> JsonObject:
    """What the page has to know of an export.

    Returns:
        "version", another one for every export; "labels", the classes in the order of the outputs;
        "models", each with "file", "bytes" and "url"; "check", the URL of the folder with held-out
        images, or None; "page", the URL of the page of the export, or None; "centre", which part of
        a picture the models are shown. URLs are relative to the page and hold the version: what
        they name never changes, so that the browser may keep it.
    """
    version = _version(folder)
    checkable = all(_is_there(folder, name) for name in CHECK_FILES)
    return {
        "version": version,
        "labels": _labels(folder),
        "models": [
            {
                "file": path.name,
                "bytes": path.stat().st_size,
                "url": f"export/{version}/{path.name}",
            }
            for path in _models(folder)
        ],
        "check": f"export/{version}/{CHECK}/" if checkable else None,
        "page": f"export/{version}/{EXPORT_PAGE}" if _is_there(folder, EXPORT_PAGE) else None,
        "centre": _centre(folder),
    }


def _labels(folder: Path) -> list[str]:
    path = folder / LABELS
    try:
        return path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{LABELS} is damaged",
            received=f"{path} ({error})",
            accepted="a class a line in UTF-8, as `resnet-keras export` writes it",
        ) from error


@dataclass(frozen=True)
class _View:
    """What the page needs of parity.json, which may be of any version."""

    centre: float = 1.0


def _centre(folder: Path) -> float:
    """Which part of a picture is shown; all that fits where an earlier export does not tell."""
    path = folder / MANIFEST
    if not _is_there(folder, MANIFEST):
        return 1.0
    return structured.read(path, _View, "a folder that is exported anew", extra="ignore").centre


def _version(folder: Path) -> str:
    names = (LABELS, MANIFEST, *CHECK_FILES)
    files = [*_models(folder), *(folder / name for name in names if _is_there(folder, name))]
    stamps = [f"{path.relative_to(folder)} {_stamp(path)}" for path in files]
    return hashlib.sha256("\n".join(stamps).encode()).hexdigest()[:16]


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def file_of(folder: Path, path: str) -> Path | None:
    """The file that a URL's path names: one of the page's, of the runtimes', or of the export's.

    Returns:
        None for anything else, and for an earlier version of the export.
    """
    name = path.removeprefix("/") or "index.html"
    if name in PAGE:
        return WEB / name
    if name in RUNTIMES:
        return RUNTIMES[name]
    place, _, rest = name.partition("/")
    version, _, file = rest.partition("/")
    if place != "export" or version != _version(folder):
        return None
    given = {*CHECK_FILES, EXPORT_PAGE, *(path.name for path in _models(folder))}
    return folder / file if file in given and _is_there(folder, file) else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing when a browser hangs up: it does whenever a page is left."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(SimpleHTTPRequestHandler):
    """Gives what the page asks for: a file that `file_of` names, or what `describe` tells."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def __init__(self, folder: Path, *connection: Any) -> None:
        self.folder = folder
        self.file = Path()  # that is asked for
        self.etag = ""
        super().__init__(*connection)

    def send_head(self) -> BinaryIO | None:
        """Sends the status and the headers; the standard library sends the body that this gives."""
        if not self._is_for_us():
            return self._text(HTTPStatus.FORBIDDEN, "this server answers to localhost only")
        path = unquote(urlsplit(self.path).path)
        try:
            if path == "/export.json":
                return self._text(HTTPStatus.OK, json.dumps(describe(self.folder)), TYPES[".json"])
            if file := file_of(self.folder, path):
                return self._head_of(file)
        except FileNotFoundError:  # the export is being replaced, or has gone
            pass
        except (InputError, PermissionError) as error:  # it was damaged or locked up meanwhile
            return self._text(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        return self._text(HTTPStatus.NOT_FOUND, "no such file")

    def _head_of(self, file: Path) -> BinaryIO | None:
        # Dates alone would take an older version of the page, installed again, for what is known.
        self.file, self.etag = file, f'"{_stamp(file)}"'
        if self.headers.get("If-None-Match") != self.etag:
            return super().send_head()
        self.send_response(HTTPStatus.NOT_MODIFIED)
        self.end_headers()
        return None

    def translate_path(self, path: str) -> str:
        return str(self.file)

    def guess_type(self, path: str | PathLike[str]) -> str:
        return TYPES.get(Path(path).suffix, "application/octet-stream")

    def end_headers(self) -> None:
        if self.etag:
            self.send_header("ETag", self.etag)
            self.etag = ""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: a page asks for dozens of files, and the browser shows what goes wrong."""

    def _is_for_us(self) -> bool:
        try:
            return urlsplit(f"//{self.headers.get('Host', '')}").hostname in OWN_NAMES
        except ValueError:  # not a host's name at all
            return False

    def _text(
        self, status: HTTPStatus, text: str, kind: str = "text/plain; charset=utf-8"
    ) -> BinaryIO:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return io.BytesIO(body)
