"""Weights that are published: fetched from real servers (of this machine), cached and checked."""

import functools
import hashlib
import http.server
import importlib.util
import json
import threading
from pathlib import Path

import h5py
import pytest
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
from kit import TINY, randomize, run_python, tensors_of
from safetensors.numpy import save_file

from resnet_keras.architectures import NETWORKS
from resnet_keras.networks.models import build
from resnet_keras.weights.download import PUBLISHED, HubFile, KerasFile

COMMIT = "0123456789abcdef0123456789abcdef01234567"

KINDS = ("keras", "hub")

# A user's process, with the tiny network among the published ones. It asks for the weights where
# they are served, and then, without a connection: with them in the cache, with a damaged cache,
# and with an empty one. Of a refusal it prints what was received and the faults of its form.
SCRIPT = """
import json, shutil, sys
from pathlib import Path

import kit
from resnet_keras import InputError, architectures, create
from resnet_keras.weights import download

download.BUCKET, md5, home, *kinds = sys.argv[1:]
caches = {kind: Path(home, kind) for kind in kinds}
files = {"keras": download.KerasFile("tiny.h5", md5), "hub": download.HubFile("tiny/tiny")}
architectures.NETWORKS["tiny"] = kit.TINY

def ask(kind):
    download.PUBLISHED["tiny"] = files[kind]
    try:
        model = create("tiny", weights="imagenet")
    except InputError as error:
        return [error.received, *kit.faults_of(error)]
    return model.layers[-1].get_weights()[1].tolist()

answers = {"served": {kind: ask(kind) for kind in kinds}}
download.BUCKET = "http://127.0.0.1:9"
if "hub" in kinds:
    from huggingface_hub import constants
    constants.HF_HUB_OFFLINE = True  # else the hub's package tries again for half a minute
answers["cached"] = {kind: ask(kind) for kind in kinds}
for pattern in ("keras/models/*.h5", "hub/**/blobs/*"):
    for path in Path(home).glob(pattern):
        path.write_bytes(b"not what was published")
answers["damaged"] = {kind: ask(kind) for kind in kinds}
for cache in caches.values():
    shutil.rmtree(cache)
answers["nowhere"] = {kind: ask(kind) for kind in kinds}
print(json.dumps(answers))
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

    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def tiny():
    return randomize(build(TINY, (32, 32, 3)))


@pytest.fixture(scope="module")
def site(tiny, tmp_path_factory):
    """A folder that is served, with both kinds of files; and its address."""
    folder = tmp_path_factory.mktemp("site")
    hub = folder / "tiny" / "tiny" / "resolve" / "main"
    hub.mkdir(parents=True)
    save_file(tensors_of(tiny, TINY), hub / "model.safetensors")
    with h5py.File(folder / "tiny.h5", "w") as file:
        save_weights_to_hdf5_group(file, tiny)
    handler = functools.partial(Server, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def answers(site, tmp_path_factory):
    """What `SCRIPT` prints: of each situation, the biases or the refusal of each kind of file."""
    folder, address = site
    home = tmp_path_factory.mktemp("home")
    printed = run_python(
        SCRIPT,
        address,
        hashlib.md5((folder / "tiny.h5").read_bytes()).hexdigest(),
        home,
        *(kind for kind in KINDS if kind == "keras" or importlib.util.find_spec("huggingface_hub")),
        KERAS_HOME=str(home / "keras"),
        HF_HOME=str(home / "hub"),
        HF_ENDPOINT=address,
        HF_HUB_DISABLE_XET="1",
        TF_CPP_MIN_LOG_LEVEL="3",
        no_proxy="*",
    )
    return home, json.loads(printed.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_fetched_once_and_checked(kind, answers, tiny):
    if kind == "hub":
        pytest.importorskip("huggingface_hub", reason="it comes with the hub extra")
    home, found = answers
    biases = tiny.layers[-1].get_weights()[1].tolist()
    assert found["served"][kind] == biases
    assert found["cached"][kind] == biases
    (refused,) = found["damaged"][kind]
    assert ("http://127.0.0.1:9/tiny.h5" if kind == "keras" else f"{home}/hub/") in refused
    (refused,) = found["nowhere"][kind]
    assert "/tiny.h5" in refused if kind == "keras" else "tiny/tiny" in refused


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
        published = PUBLISHED[network]
        assert isinstance(published, KerasFile)
        assert published.md5 == WEIGHTS_HASHES[network][0]
