"""Sets that others have published, and the bundled digits: `load_images`.

A file in the data folder counts only when its checksum is right, so a truncated, foreign or
half-written one is never taken for whole, and a download moves there only when it is finished.
A mirror may send anything: too much, too slowly, or something else, which is not even unpacked.
torchvision knows where the sets are published, unpacks them and reads them. The transfer itself is
written here, because torchvision's waits for ever on a network that stays silent.
"""

import difflib
import glob
import gzip
import hashlib
import os
import platform
import queue
import re
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile, rmtree

import numpy as np
import psutil
import torch

from ..errors import DataError, require
from .images import Images

_PACKAGE = Path(__file__).resolve().parents[1]
_PATIENCE = 7.0  # seconds without a byte, all mirrors together, before a download is given up
_RATE, _SPAN = 10_000, 10.0  # bytes a second that a mirror must send, over so many seconds
_LARGEST = 200_000_000  # bytes, packed or not: CIFAR-10, the largest, has 187 million
_INCOMING = f".incoming-{platform.node()}-"  # and who downloads, a process of this machine
_VALID = 5_000  # how many images at the end of the published training file are for validation

_CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
_CLASSES = {
    "fashion-mnist": tuple(_CLOTHES.split(",")),
    "mnist": tuple("0123456789"),
    "cifar10": tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
    "digits": tuple("0123456789"),
}
NAMES = tuple(_CLASSES)
_TORCHVISION = {"fashion-mnist": "FashionMNIST", "mnist": "MNIST", "cifar10": "CIFAR10"}

# torchvision has checksums for the .gz files of MNIST and Fashion-MNIST, none for the unpacked ones
# that are read in the end. A .gz packed anew differs while its content does not: content counts.
_UNPACKED_MD5 = {
    "FashionMNIST/raw/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "FashionMNIST/raw/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "FashionMNIST/raw/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "FashionMNIST/raw/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def load_images(
    name: str = "fashion-mnist",
    root: str | os.PathLike | None = None,
    download: bool = True,
    fallback: bool = True,
) -> Images:
    """Loads a set of small images, split into train, valid and test.

    The last 5,000 images of the published training file are the validation split. The test split is
    for one final score: nothing should be chosen by it. The bundled digits are 4,000, 500 and 500
    images, with every class equally often in each split.

    Arguments:
        name: `"fashion-mnist"` or `"mnist"` (28×28, grey), `"cifar10"` (32×32, colour), or
            `"digits"` (28×28, grey), which is part of this project and needs no download.
        root: folder of the downloaded sets, laid out as torchvision does. Default:
            `$PIXELHELPERS_DATA`, else the checkout's `data/`, else the user's cache folder. Only a
            download writes to it.
        download: whether to download what is missing or damaged. Without an answer this gives up
            after 7 seconds.
        fallback: whether to print one line and return `digits` where the set cannot be had.

    Returns:
        `Images`: `.train .valid .test`, uint8 `[N, C, H, W]`; `.train_labels .valid_labels
        .test_labels`, int64 `[N]`; `.name`; `.levels`, 256; `.classes`, the names of the classes.

    Errors:
        `ValueError`: the name is not known.
        `DataError`: the set cannot be had and `fallback` is false, or the bundled digits cannot.

    References:
        Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
        Learning Algorithms", 2017, https://arxiv.org/abs/1708.07747
        LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition",
        1998 (MNIST)
        Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009 (CIFAR-10)

    Example:
        >>> images = load_images("digits")
        >>> images.train.shape, images.train.dtype
        (torch.Size([4000, 1, 28, 28]), torch.uint8)
        >>> images.test_labels[:4].tolist(), images.levels, len(images.classes)
        ([0, 1, 2, 3], 256, 10)
    """
    require(name in tuple(_CLASSES), _unknown(name))
    if name == "digits":
        return _bundled_digits()
    folder = None
    try:
        folder = _data_folder(name, root)
        return _through_torchvision(name, folder, download)
    except (DataError, OSError) as error:
        trouble = (
            str(error)
            if isinstance(error, DataError)
            else (
                f"{name} cannot be read from or written to {folder} ({error}). "
                f"Choose another folder: load_images({name!r}, root=…) or $PIXELHELPERS_DATA."
            )
        )
        if not fallback:
            raise DataError(trouble) from error
    print(f"{trouble} Using the bundled digits instead.")
    return _bundled_digits()


def _unknown(name) -> str:
    hints = [f" Did you mean {near!r}?" for near in difflib.get_close_matches(str(name).lower(), _CLASSES, n=1)]
    return f"Unknown data set {name!r}; known are {', '.join(map(repr, _CLASSES))}.{''.join(hints)}"


def _bundled_digits() -> Images:
    path = next(_PACKAGE.parent.glob("data/digits.npz"), _PACKAGE / "data_files" / "digits.npz")  # in a wheel
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {key: torch.from_numpy(file[key]) for key in file.files}
        images = {split: arrays[split][:, None] for split in ("train", "valid", "test")}
        labels = {f"{split}_labels": arrays[f"{split}_labels"].long() for split in images}
    except Exception as error:  # a damaged file raises whatever its parser trips over
        raise DataError(
            f"The bundled digits cannot be read from {path} ({error}). Restore that file, or reinstall pixelhelpers."
        ) from error
    return Images(**images, **labels, name="digits", levels=256, classes=_CLASSES["digits"])


def _data_folder(name: str, root: str | os.PathLike | None) -> Path:
    chosen, checkout = root or os.environ.get("PIXELHELPERS_DATA"), _PACKAGE.parent / "data"
    try:
        if chosen:
            return Path(chosen).expanduser()
        return checkout if (checkout / "digits.npz").is_file() else _users_cache() / "pixelhelpers"
    except RuntimeError as error:
        raise DataError(
            f"{name} has no place: {error}. Choose a folder: load_images({name!r}, root=…) or $PIXELHELPERS_DATA."
        ) from None


def _users_cache() -> Path:
    variable, usual = {"win32": ("LOCALAPPDATA", "AppData/Local"), "darwin": ("", "Library/Caches")}.get(
        sys.platform, ("XDG_CACHE_HOME", ".cache")
    )
    return Path(os.environ.get(variable) or Path.home() / usual)


def _through_torchvision(name: str, root: Path, download: bool) -> Images:
    from torchvision import datasets

    dataset = getattr(datasets, _TORCHVISION[name])
    archives = list(_archives(dataset))
    if all(archive.lies_unpacked_in(root) for archive in archives):
        return _read(name, dataset, root)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        stage = Path(folder)
        for archive in archives:
            if not archive.collect(root, stage):
                if not download:
                    trouble = archive.trouble_in(root)
                    raise DataError(f"{name}: {trouble}; download=True fetches it.")
                archive.download(name, root)
                archive.collect(root, stage)
        return _read(name, dataset, stage)


def _read(name: str, dataset: type, folder: Path) -> Images:
    published, test = dataset(folder, train=True), dataset(folder, train=False)
    images, labels = _tensors(published)
    test_images, test_labels = _tensors(test)
    return Images(
        train=images[:-_VALID],
        valid=images[-_VALID:],
        test=test_images,
        train_labels=labels[:-_VALID],
        valid_labels=labels[-_VALID:],
        test_labels=test_labels,
        name=name,
        levels=256,
        classes=_CLASSES[name],
    )


def _tensors(dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Images `[N, C, H, W]` and labels of a torchvision data set, which keeps `[N, H, W(, C)]`."""
    data = torch.as_tensor(dataset.data)
    images = data[:, None] if data.ndim == 3 else data.permute(0, 3, 1, 2)
    return images.contiguous(), torch.as_tensor(dataset.targets)


def _archives(dataset: type) -> Iterator["_Archive"]:
    """The downloads that make up a torchvision data set."""
    if hasattr(dataset, "mirrors"):  # MNIST and Fashion-MNIST: one .gz per file
        folder = f"{dataset.__name__}/raw"
        for packed, md5 in dataset.resources:
            file = f"{folder}/{packed.removesuffix('.gz')}"
            urls = [mirror + packed for mirror in dataset.mirrors]
            yield _Archive(f"{folder}/{packed}", md5, urls, {file: _UNPACKED_MD5[file]})
    else:  # CIFAR-10: one .tar.gz for all
        meta = (dataset.meta["filename"], dataset.meta["md5"])
        files = [*dataset.train_list, *dataset.test_list, meta]
        contents = {f"{dataset.base_folder}/{file}": md5 for file, md5 in files}
        yield _Archive(dataset.filename, dataset.tgz_md5, [dataset.url], contents)


@dataclass(frozen=True)
class _Archive:
    path: str  # below the data folder, as are the contents
    md5: str
    urls: list[str]
    contents: dict[str, str]  # path and MD5 of each unpacked file

    def lies_unpacked_in(self, folder: Path) -> bool:
        from torchvision.datasets.utils import check_integrity

        return all(check_integrity(folder / file, md5) for file, md5 in self.contents.items())

    def collect(self, source: Path, target: Path) -> bool:
        """Copies or unpacks the files from `source` to `target`; false if they are not whole."""
        if not self.lies_unpacked_in(source):
            return self.unpack(source, target)
        for file in self.contents:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            copyfile(source / file, target / file)
        return True

    def unpack(self, source: Path, target: Path) -> bool:
        from torchvision.datasets.utils import check_integrity, extract_archive

        packed = source / self.path
        if not check_integrity(packed, self.md5) and not self._is_packed_anew(packed):
            return False
        place = (target / self.path).parent
        place.mkdir(parents=True, exist_ok=True)
        try:
            extract_archive(packed, place)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return False
        return self.lies_unpacked_in(target)

    def _is_packed_anew(self, packed: Path) -> bool:
        """Whether a .gz that is not the published one holds what was published: read before it is unpacked."""
        if packed.suffixes != [".gz"] or not packed.is_file():
            return False
        content, length = hashlib.md5(usedforsecurity=False), 0
        try:
            with gzip.open(packed) as file:
                while length <= _LARGEST and (chunk := file.read(1 << 20)):
                    content.update(chunk)
                    length += len(chunk)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return False
        return [content.hexdigest()] == list(self.contents.values())

    def trouble_in(self, folder: Path) -> str:
        """Why nothing could be collected from `folder`, in words."""
        from torchvision.datasets.utils import check_integrity

        for file, md5 in {self.path: self.md5, **self.contents}.items():
            if (folder / file).is_file() and not check_integrity(folder / file, md5):
                return f"{folder / file} is truncated or not the published file"
        return f"{folder / self.path} is missing"

    def download(self, name: str, root: Path) -> None:
        """Puts the unpacked files into `root`, each of them whole from the moment it is there."""
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        prefix = f"{_INCOMING}{os.getpid()}-"
        with tempfile.TemporaryDirectory(dir=root, prefix=prefix, ignore_cleanup_errors=True) as folder:
            incoming = Path(folder)
            self._transfer_from_any_mirror(name, root, incoming)
            for file, md5 in self.contents.items():
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                _move(incoming / file, root / file, md5)

    def _transfer_from_any_mirror(self, name: str, root: Path, incoming: Path) -> None:
        target = incoming / self.path
        target.parent.mkdir(parents=True, exist_ok=True)
        for url in self.urls:
            try:
                _transfer(url, target, _PATIENCE / len(self.urls))
            except ConnectionError as error:
                trouble = str(error)
            else:
                if self.unpack(incoming, incoming):
                    return
                trouble = f"{_host(url)} sent a truncated or foreign file"
        raise DataError(
            f"{name}: {self.trouble_in(root)}, and {trouble}. Check the connection, or put the published file there."
        )


def _sweep(root: Path) -> None:
    """Removes what killed downloads of this machine have left."""
    for folder in root.glob(f"{glob.escape(_INCOMING)}*"):
        owner = re.match(r"(\d{1,9})-", folder.name.removeprefix(_INCOMING))
        if owner and not folder.is_symlink() and not psutil.pid_exists(int(owner[1])):
            rmtree(folder, ignore_errors=True)


def _move(file: Path, place: Path, md5: str) -> None:
    from torchvision.datasets.utils import check_integrity

    try:
        os.replace(file, place)
    except PermissionError:  # on Windows, while another process reads its own download of the file
        if not check_integrity(place, md5):
            raise


def _transfer(url: str, path: Path, patience: float) -> None:
    """Downloads `url` to `path` with a progress bar; a `ConnectionError` says what went wrong."""
    from tqdm.auto import tqdm

    with (
        closing(_chunks(url, patience)) as chunks,
        open(path, "wb") as file,
        tqdm(desc=path.name, unit="B", unit_scale=True, delay=0.1) as bar,  # none without a byte
    ):
        began = before = 0.0
        for total, chunk in chunks:
            if max(total or 0, file.tell() + len(chunk)) > _LARGEST:
                raise ConnectionError(f"{_host(url)} sends more than {_LARGEST:,} bytes")
            bar.total = total
            bar.update(file.write(chunk))
            began = began or time.monotonic()
            if (spent := time.monotonic() - began) > _SPAN:
                if (rate := (file.tell() - before) / spent) < _RATE:
                    raise ConnectionError(f"{_host(url)} sent {rate:,.0f} bytes a second for {spent:.0f} seconds")
                began, before = time.monotonic(), file.tell()


def _chunks(url: str, patience: float) -> Generator[tuple[int | None, bytes], None, None]:
    """Yields the bytes behind `url` as they come, each time with how many there are in all.

    A thread reads them, because the time-out of a socket does not cover looking up a name, and
    starts anew at every address of a host.
    """
    arrived, stopped = queue.SimpleQueue(), threading.Event()

    def read():
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "pixelhelpers"})
            with urllib.request.urlopen(request, timeout=2 * patience) as answer:
                total = answer.length
                while not stopped.is_set() and (chunk := answer.read1(1 << 16)):
                    arrived.put((total, chunk))
            arrived.put(None)
        except Exception as error:
            arrived.put(str(error).strip("<>"))

    threading.Thread(target=read, daemon=True).start()
    try:
        while (item := arrived.get(timeout=patience)) is not None:
            if isinstance(item, str):
                raise ConnectionError(f"{_host(url)} gave no data ({item})")
            yield item
    except queue.Empty:
        raise ConnectionError(f"{_host(url)} sent nothing for {patience:g} seconds") from None
    finally:
        stopped.set()


def _host(url: str) -> str | None:
    return urllib.parse.urlsplit(url).hostname
