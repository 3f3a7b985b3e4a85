"""Weights that are published: fetched from real servers (of this machine), cached and checked."""

import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import pytest
from conftest import TINY
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
from safetensors.numpy import save_file
from tiny_family import randomize

from resnet_keras.architectures import NETWORKS
from resnet_keras.models import build
from resnet_keras.weights.layouts import to_torch
from resnet_keras.weights.naming import TORCHVISION
from resnet_keras.weights.places import places
from resnet_keras.weights.published import PUBLISHED, HubFile

COMMIT = "0123456789abcdef0123456789abcdef01234567"

NOWHERE = "http://127.0.0.1:9"

# What a user's process does, with the tiny networks among the published ones.
SCRIPT = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[4])
from conftest import TINY
from resnet_keras import InputError, architectures, create
from resnet_keras.weights import published

network, published.BUCKET, md5 = sys.argv[1:4]
architectures.NETWORKS["tiny"] = TINY
published.PUBLISHED["tiny"] = (
    published.KerasFile("tiny.h5", md5) if network == "keras" else published.HubFile("tiny/tiny")
)
try:
    model = create("tiny", weights="imagenet")
except InputError as error:
    print("refused:", error)
else:
    print("answered:", model.layers[-1].get_weights()[1].tolist())
"""


class Server(http.server.SimpleHTTPRequestHandler):
    """Files, and what the Hugging Face hub tells about them in headers."""

    def end_headers(self):
        path = Path(self.translate_path(self.path))
        if path.suffix == ".safetensors" and path.is_file():
            checksum = hashlib.sha256(path.read_bytes()).hexdigest()
            self.send_header("ETag", f'"{checksum}"')
            self.send_header("X-Repo-Commit", COMMIT)
        super().end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def tiny():
    return randomize(build(TINY, (32, 32, 3)))


@pytest.fixture
def site(tiny, tmp_path):
    """A folder that is served, with both kinds of files; and its address."""
    folder = tmp_path / "site"
    hub = folder / "tiny" / "tiny" / "resolve" / "main"
    hub.mkdir(parents=True)
    weights = {layer.name: layer.get_weights() for layer in tiny.layers if layer.weights}
    save_file(to_torch(weights, TORCHVISION, places(TINY, 10)), hub / "model.safetensors")
    with h5py.File(folder / "tiny.h5", "w") as file:
        save_weights_to_hdf5_group(file, tiny)
    handler = functools.partial(Server, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def fetch(kind, address, md5, home):
    environment = os.environ | {
        "KERAS_HOME": str(home / "keras"),
        "HF_HOME": str(home / "hub"),
        "HF_ENDPOINT": address,
        "HF_HUB_DISABLE_XET": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "HF_HUB_OFFLINE": str(int(address == NOWHERE)),  # else it tries again for half a minute
        "no_proxy": "*",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind, address, md5, str(Path(__file__).parent)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["keras", "hub"])
def test_weights_are_fetched_once_and_checked(kind, site, tiny, tmp_path):
    if kind == "hub":
        pytest.importorskip("huggingface_hub", reason="it comes with the hub extra")
    folder, address = site
    file = folder / "tiny.h5"
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    answer = f"answered: {tiny.layers[-1].get_weights()[1].tolist()}"
    assert fetch(kind, address, md5, tmp_path) == answer
    # Again, where nothing is served: from the cache.
    assert fetch(kind, NOWHERE, md5, tmp_path) == answer
    # A cache whose bytes have changed.
    for cached in (tmp_path / "keras").rglob("*.h5"):
        cached.write_bytes(b"not what was published")
    for cached in (tmp_path / "hub").rglob("blobs/*"):
        cached.write_bytes(b"not what was published")
    said = fetch(kind, NOWHERE, md5, tmp_path)
    assert said.startswith("refused:")
    assert ("cannot be fetched" if kind == "keras" else "not what was published") in said
    # Nothing cached and nothing served.
    said = fetch(kind, NOWHERE, md5, tmp_path / "empty")
    assert said.startswith("refused: the weights cannot be fetched")
    assert "name the file instead" in said


def test_every_network_for_photographs_of_the_paper_has_published_weights():
    wanted = {f"resnet{depth}" for depth in (18, 34, 50, 101, 152)}
    assert wanted <= PUBLISHED.keys() <= NETWORKS.keys()
    for network, published in PUBLISHED.items():
        # torchvision's bottlenecks have their stride on the 3x3.
        is_bottleneck = len(NETWORKS[network].unit.widths) == 3
        if is_bottleneck:
            stride_at = NETWORKS[network].unit.stride_at
            assert isinstance(published, HubFile) == (stride_at == 1)
        assert published.address.startswith("https://")


def test_checksums_are_those_that_keras_publishes():
    from keras.src.applications.resnet import WEIGHTS_HASHES

    for network in ("resnet50", "resnet101", "resnet152"):
        assert PUBLISHED[network].md5 == WEIGHTS_HASHES[network][0]
