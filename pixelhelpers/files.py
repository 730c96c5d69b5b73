"""Whole files, `write_atomically`, and safe weights, `write_weights`, `read_weights`: no halves and no pickles."""

import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor


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
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_weights(path: Path, weights: dict[str, Tensor], notes: dict[str, str] | None = None) -> None:
    """Writes tensors as one safetensors file, at once or not at all.

    Arguments:
        path: the file; its folder must exist.
        weights: tensors by name; several may share memory, on any device.
        notes: texts for the file's header.

    Example:
        >>> import tempfile, torch
        >>> file = Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> write_weights(file, {"scale": torch.ones(2)})
        >>> read_weights(file)
        {'scale': tensor([1., 1.])}
    """
    # Copies: the format refuses tensors that share memory.
    write_atomically(
        path, save({name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}, notes)
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads the tensors that `write_weights` wrote.

    Arguments:
        path: the file.

    Raises:
        ValueError: for a file that is truncated, or something else.
    """
    try:
        return load(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}): fetch it again.") from None
