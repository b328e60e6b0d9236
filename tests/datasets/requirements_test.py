import hashlib
import http.server
import inspect
import os
import pathlib
import re
import sys
import threading

import pytest

from keras_finegrain import datasets
from keras_finegrain._base.optional import pip_install
from keras_finegrain.datasets import requirements
from tests.datasets.error_messages import message

pytestmark = pytest.mark.one_backend

KITES_SHA256 = hashlib.sha256(b"kites").hexdigest()


@pytest.fixture
def download(builders, monkeypatch):
    """Gives the downloading builder an address and a size."""
    from tensorflow_datasets.core.download import checksums

    def record(address, size=5, checksum=64 * "0"):
        info = checksums.UrlInfo(size, checksum, "kites.txt")
        infos = {address: info}
        monkeypatch.setattr(builders.KitesDownload, "url_infos", infos)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    return record


@pytest.fixture
def server():
    """A web server on this machine that has `/kites.txt` and nothing else."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/kites.txt" else 404)
            self.send_header("Content-Length", "5")
            self.end_headers()
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
    assert pip_install("tensorflow") in text


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


def test_the_table_of_packages_is_what_the_builders_import():
    import tensorflow_datasets as tfds

    for name, modules in requirements._PREPARATION_MODULES.items():
        source = inspect.getsource(tfds.builder_cls(name))
        used = re.findall(r"lazy_imports\.([a-z0-9]+)", source, re.IGNORECASE)
        assert set(used) == set(modules), name


def test_only_what_a_preparation_uses_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "scipy", None)
    datasets.check("beans", tmp_path)


def test_a_package_that_the_table_lacks_is_named_when_it_is_missed(
    builders, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "skimage", None)
    text = message(
        datasets.load,
        "kites_skimage",
        data_dir=tmp_path,
        error=datasets.MissingPackageError,
    )
    assert "'kites_skimage' with the module 'skimage.color'" in text
    assert "pip install skimage" not in text  # What TFDS would say.
    assert text.endswith("pip install scikit-image")


def test_prepared_data_needs_none_of_it(sparrows, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    datasets.check("caltech_birds2011", sparrows, "sparrow")


def test_no_network_says_where_to_get_the_data(download, tmp_path, monkeypatch):
    from tensorflow_datasets.core.download import downloader

    # TFDS would go on for minutes.
    monkeypatch.setattr(downloader, "MAX_RETRIES", 0)
    # RFC 2606 keeps .invalid free of hosts.
    download("http://data.invalid/kites.txt")
    text = message(datasets.load, "kites_download", data_dir=tmp_path)
    assert "data.invalid" in text
    assert f"data_dir={str(tmp_path)!r}" in text
    assert "without a network, prepare it where there is one" in text


def test_a_download_that_is_gone_is_named(download, server, tmp_path):
    download(f"{server}/gone.txt")
    text = message(datasets.load, "kites_download", data_dir=tmp_path)
    assert "gone.txt" in text
    assert "404" in text
    assert "Pass the data_dir that holds it" in text


def test_check_asks_no_host(download, tmp_path):
    download("http://data.invalid/kites.txt")
    datasets.check("kites_download", tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_passes_the_check_is_downloaded_and_loads(
    download, server, tmp_path
):
    download(f"{server}/kites.txt", checksum=KITES_SHA256)
    datasets.check("kites_download", tmp_path)
    kites = datasets.load("kites_download", data_dir=tmp_path)
    assert (kites.train_size, kites.test_size) == (12, 4)


def test_a_download_that_fails_is_told_in_one_line(download, server, tmp_path):
    download(f"{server}/kites.txt")
    text = message(datasets.load, "kites_download", data_dir=tmp_path)
    assert "hecksum" in text


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
    not pathlib.Path("/proc/self").exists(), reason="no such file system"
)
def test_a_data_dir_that_takes_no_files_is_named_whatever_its_rights(builders):
    text = message(datasets.check, "kites", data_dir="/proc/none")
    assert "'/proc' cannot be written to" in text


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
