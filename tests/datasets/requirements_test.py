import hashlib
import http.server
import os
import sys
import threading
import time

import pytest

from keras_finegrain import datasets
from keras_finegrain.datasets import requirements
from tests.datasets.error_messages import message

KITES_SHA256 = hashlib.sha256(b"kites").hexdigest()


@pytest.fixture
def download(builders, monkeypatch):
    """Gives the downloading builder an address and a size."""
    from tensorflow_datasets.core.download import checksums

    def record(*addresses, size=5, checksum=None):
        infos = {
            address: checksums.UrlInfo(
                size, checksum or f"{i:064x}", "kites.txt"
            )
            for i, address in enumerate(addresses)
        }
        monkeypatch.setattr(builders.KitesDownload, "url_infos", infos)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    return record


@pytest.fixture
def server():
    """A web server on this machine that has `/kites.txt` and nothing else."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200 if self.path == "/kites.txt" else 404)
            self.send_header("Content-Length", "5")
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(b"kites")

        def log_message(self, *arguments):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


@pytest.mark.parametrize(
    "module", ["tensorflow", "tensorflow_datasets", "importlib_resources"]
)
def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    text = message(datasets.check, "cars196", tmp_path, error=ImportError)
    assert module in text
    assert 'pip install "keras-finegrain[tensorflow]"' in text


def test_a_folder_loads_without_tfds(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.chdir(folder.parent)
    datasets.check("birds")


@pytest.mark.parametrize(
    ("name", "module", "distribution"),
    [
        ("caltech_birds2011", "cv2", "opencv-python-headless"),
        ("cars196", "scipy", "scipy"),
        ("oxford_flowers102", "scipy", "scipy"),
        ("stanford_dogs", "scipy", "scipy"),
    ],
)
def test_what_the_preparation_imports_is_missed_before_the_download(
    tmp_path, monkeypatch, name, module, distribution
):
    monkeypatch.setitem(sys.modules, module, None)
    text = message(
        datasets.check, name, tmp_path, error=datasets.MissingPackageError
    )
    assert f"pip install {distribution}" in text


def test_only_what_a_builder_uses_is_asked_for(builders):
    import tensorflow_datasets as tfds

    wanted = {
        "caltech_birds2010": {"scipy"},
        "caltech_birds2011": {"cv2"},
        "cars196": {"PIL", "scipy"},
        "food101": set(),
    }
    for name, modules in wanted.items():
        builder_class = tfds.builder_cls(name)
        assert requirements._preparation_modules(builder_class) == modules
    found = requirements._preparation_modules(builders.KitesScipy)
    assert found == {"scipy"}


def test_prepared_data_needs_none_of_it(sparrows, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    datasets.check("caltech_birds2011", sparrows, "sparrow")


def test_no_network_is_found_in_seconds(download, tmp_path):
    # RFC 2606 keeps .invalid free of hosts.
    download("http://data.invalid/kites.txt", "http://data.invalid/more.txt")
    start = time.monotonic()
    text = message(datasets.check, "kites_download", tmp_path)
    assert time.monotonic() - start < 60
    assert text.count("data.invalid cannot be reached") == 1
    assert str(tmp_path) in text
    assert not list(tmp_path.iterdir())


def test_a_download_that_is_gone_is_named(download, server, tmp_path):
    download(f"{server}/gone.txt")
    assert "404" in message(datasets.check, "kites_download", tmp_path)


def test_one_address_that_answers_is_enough(download, server, tmp_path):
    download("http://data.invalid/a.txt", f"{server}/kites.txt")
    datasets.check("kites_download", tmp_path)


def test_what_passes_the_check_is_downloaded_and_loads(
    download, server, tmp_path
):
    download(f"{server}/kites.txt", checksum=KITES_SHA256)
    datasets.check("kites_download", tmp_path)
    kites = datasets.load("kites_download", data_dir=tmp_path)
    assert (kites.train_size, kites.test_size) == (12, 4)


def test_a_download_that_fails_is_told_in_one_line(download, server, tmp_path):
    download(f"{server}/kites.txt", checksum=64 * "0")
    with pytest.raises(datasets.DatasetError, match="hecksum") as caught:
        datasets.load("kites_download", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_disk_that_is_too_small_is_found(download, server, tmp_path):
    download(f"{server}/kites.txt", size=10**18)
    text = message(datasets.check, "kites_download", tmp_path)
    assert "GB left" in text
    assert str(tmp_path) in text


def test_a_data_dir_below_a_file_cannot_be_written(builders, tmp_path):
    (tmp_path / "file").write_text("")
    assert "data_dir" in message(
        datasets.check, "kites", tmp_path / "file" / "data"
    )


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="root may write anywhere",
)
def test_a_data_dir_without_write_access_is_named(builders, tmp_path):
    tmp_path.chmod(0o500)
    assert "cannot be written" in message(datasets.check, "kites", tmp_path)


def test_data_to_be_fetched_by_hand_says_where_to(builders, tmp_path):
    text = message(datasets.check, "kites_by_hand", tmp_path)
    assert "Ask the museum for kites.zip." in text
    manual = tmp_path / "downloads" / "manual"
    assert str(manual) in text
    manual.mkdir(parents=True)
    (manual / "kites.zip").write_text("kites")
    datasets.check("kites_by_hand", tmp_path)
