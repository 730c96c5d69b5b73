"""Whole files, `write_atomically`, `write_together`, `sweep`; safe weights, `pack_weights`, `write_weights`,
`read_header`, `read_weights`; `read_json`; and `held`, a folder for one run: no halves, no mixtures, no pickles."""

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from filelock import FileLock, Timeout
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from .errors import brief, require

LONGEST_JSON = 16_000_000  # bytes: no record of ours comes near
ABOUT, DIGEST = "about", "digest"


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that a reader finds the old content or the new one, never a part of it.

    Arguments:
        path: the file; its folder must exist.
        content: the new content.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "note.txt"
        >>> write_atomically(file, b"whole")
        >>> file.read_bytes()
        b'whole'
    """
    write_together({path: content})


def write_together(contents: dict[Path, bytes]) -> None:
    """Writes files that belong together: what can fail is done before the first of them takes its place.

    Arguments:
        contents: the new content of each file; their folders must exist.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_together({folder / "one.txt": b"1", folder / "two.txt": b"2"})
        >>> sorted(path.name for path in folder.iterdir())
        ['one.txt', 'two.txt']
    """
    parts = {path: path.with_name(f"{path.name}.{os.getpid()}.{threading.get_native_id()}.part") for path in contents}
    try:
        for path, part in parts.items():
            with part.open("wb") as file:
                file.write(contents[path])
                file.flush()
                os.fsync(file.fileno())
        for path, part in parts.items():
            os.replace(part, path)
        for folder in {path.parent for path in contents}:
            _sync(folder)
    finally:
        for part in parts.values():
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Makes new names in a folder outlast a power cut, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # some network folders cannot; the files themselves are whole
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep(path: Path) -> None:
    """Removes what killed processes left of a file that they were writing, and nothing else.

    Arguments:
        path: the file that was to be written.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "note.txt"
        >>> file.with_name("other.txt.part").touch()
        >>> sweep(file)
        >>> [path.name for path in file.parent.iterdir()]
        ['other.txt.part']
    """
    for part in path.parent.glob("*.part"):
        owner = re.fullmatch(re.escape(path.name) + r"\.(\d{1,9})(\.\d+)?\.part", part.name)
        if owner and part.is_file() and not part.is_symlink() and not psutil.pid_exists(int(owner[1])):
            with suppress(OSError):
                part.unlink(missing_ok=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds a folder, which is made if missing, for one run; the system lets go of it when the process dies.

    Arguments:
        folder: gets a file `.lock`, which stays and means nothing by itself.

    Raises:
        BlockingIOError: while another run holds it.
        OSError: for a folder that cannot be written to.

    Example:
        >>> import tempfile
        >>> with held(Path(tempfile.mkdtemp()) / "run") as nothing:
        ...     pass
    """
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise BlockingIOError(
            f"{folder} belongs to a run that is going on: wait for its end, or choose another folder."
        ) from None
    except OSError as error:
        raise OSError(f"{folder} cannot be written to ({error}): choose another folder.") from error
    try:
        yield
    finally:
        lock.release()


def read_json(path: Path) -> Any:
    """Reads a file that somebody else may have written.

    Arguments:
        path: the file.

    Raises:
        ValueError: for a file that is no JSON, nests too deep, or is too long.
    """
    require(path.stat().st_size <= LONGEST_JSON, f"it has {path.stat().st_size:,} bytes")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("too deeply nested") from None


def pack_weights(weights: dict[str, Tensor], about: dict[str, Any] | None = None) -> bytes:
    """Gives the content of a safetensors file, whose header holds a checksum of all that is in it.

    Arguments:
        weights: tensors by name; several may share memory, on any device.
        about: what the header says of them, as far as JSON can.
    """
    # Copies: the format refuses tensors that share memory.
    copies = {name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}
    about = json.loads(json.dumps(about or {}, default=float))
    about.pop(DIGEST, None)  # of the file that it was read from
    # One text: the format does not keep the order of several, and equal weights make equal files.
    return save(copies, {ABOUT: json.dumps({**about, DIGEST: _digest(copies, about)})})


def write_weights(path: Path, weights: dict[str, Tensor], about: dict[str, Any] | None = None) -> None:
    """Writes tensors as one safetensors file, at once or not at all.

    Arguments:
        path: the file; its folder must exist.
        weights: tensors by name; several may share memory, on any device.
        about: what the header says of them, as far as JSON can.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> write_weights(file, {"scale": torch.ones(2)}, {"made": "by hand"})
        >>> read_weights(file)
        {'scale': tensor([1., 1.])}
        >>> read_header(file).shapes, read_header(file).about["made"]
        ({'scale': (2,)}, 'by hand')
    """
    write_atomically(path, pack_weights(weights, about))


class Header(NamedTuple):
    """What a safetensors file says of itself: the shape of each tensor by name, and `about` them all."""

    shapes: dict[str, tuple[int, ...]]
    about: dict[str, Any]


def read_header(path: Path, advice: str = "fetch it again.") -> Header:
    """Reads what a safetensors file holds, which costs no memory however large it is.

    Arguments:
        path: the file.
        advice: what to do if it is not whole.

    Raises:
        ValueError: for a file that is truncated, or something else.
    """
    with _opened(path, advice) as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
        about = json.loads((file.metadata() or {}).get(ABOUT, "{}"))
        return Header(shapes, dict(about))


def read_weights(path: Path, advice: str = "fetch it again.") -> dict[str, Tensor]:
    """Reads the tensors that `write_weights` wrote, or that another program wrote as safetensors.

    Arguments:
        path: the file.
        advice: what to do if it is not whole.

    Raises:
        ValueError: for a file that is truncated, altered, or something else.
    """
    _, about = read_header(path, advice)
    with _opened(path, advice) as file:
        weights = {name: file.get_tensor(name).clone() for name in file.keys()}
        written = about.pop(DIGEST, None)  # other programs write none
        require(written in (None, _digest(weights, about)), "its checksum is wrong")
    return weights


@contextmanager
def _opened(path: Path, advice: str) -> Iterator[Any]:
    """Opens a safetensors file, and says what is wrong with it in one way."""
    try:
        require(path.is_file(), "it is no file")
        with safe_open(path, framework="pt") as file:
            yield file
    except Exception as error:  # a damaged file raises whatever its parser trips over
        raise ValueError(f"{path} is not a whole safetensors file ({brief(error)}): {advice}") from None


def _digest(weights: dict[str, Tensor], about: dict[str, Any]) -> str:
    """A checksum of names, types, shapes, values and all that is said about them."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(weights):
        value = weights[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
