"""Arrays of one's own: `split_arrays` takes NumPy's and PyTorch's as images and labels, `read_arrays` reads files."""

from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..arguments import whole
from ..errors import DataError, require
from .splits import fingerprint, held_out

Array = np.ndarray | Tensor
PARTS = ("train", "valid", "test")
LABELS = tuple(f"{part}_labels" for part in PARTS)
MOST = 2**16  # levels or classes that are believed without being told


def split_arrays(
    images: dict[str, Any], labels: dict[str, Any], levels: int | None, classes: Sequence[str] | None, seed: int
) -> dict[str, Any]:
    """Brings arrays into the fields of `Images`, which `Images.from_arrays` describes.

    Arguments:
        images, labels: by the name of their split, None where there are none.
        levels, classes, seed: as for `Images.from_arrays`.
    """
    share, seed = _share(images["valid"]), whole("seed", seed, 0)
    levels = None if levels is None else whole("levels", levels, 2)
    given = {part: array for part, array in images.items() if array is not None and (part != "valid" or share is None)}
    for part, some in labels.items():
        require(some is None or part in given, f"{part}_labels are given without {part}: give the images, too.")
    fields: dict[str, Any] = {part: _axes(part, _integers(part, array, levels)) for part, array in given.items()}
    fields["levels"] = _levels(fields, levels)
    fields |= {
        f"{part}_labels": _labels(part, some, len(fields[part])) for part, some in labels.items() if part in given
    }
    fields["classes"] = _classes([fields[f"{part}_labels"] for part in given]) if classes is None else classes
    if share is not None:
        rows = fields["train"].numpy()
        kept, held = held_out([fingerprint(row.astype("<i8").tobytes(), seed) for row in rows], share)
        for name in ("train", "train_labels"):
            if fields[name] is not None:
                every = fields[name]
                fields[name], fields[name.replace("train", "valid")] = every[kept], every[held]
    return fields


def read_arrays(path: Path) -> dict[str, Any]:
    """Reads what `Images.from_arrays` takes from a file.

    Arguments:
        path: a `.npy` file with the training images, or an `.npz` file with arrays named `train`, and perhaps `valid`,
            `test`, `train_labels`, …, `levels` and `classes`, as in `data/digits.npz`.

    Raises:
        DataError: for a file that is damaged, or holds something else.
    """
    try:
        opened = np.load(path, allow_pickle=False)
        arrays = {"train": opened} if isinstance(opened, np.ndarray) else {name: opened[name] for name in opened.files}
    except Exception as error:  # a damaged file raises whatever its parser trips over
        raise DataError(f"{path} holds no whole arrays of numbers: write it with np.save or np.savez.") from error
    known = (*PARTS, *LABELS, "levels", "classes")
    require(
        "train" in arrays and set(arrays) <= set(known),
        f"{path} holds {', '.join(arrays) or 'nothing'}: give an array train, and perhaps {', '.join(known[1:])}.",
        DataError,
    )
    if "classes" in arrays:
        arrays["classes"] = tuple(map(str, arrays["classes"].tolist()))
    return arrays


def _share(valid: Any) -> float | None:
    """The share to hold out where no images are given for validation."""
    if valid is None:
        return 0.1
    if not isinstance(valid, Real):
        return None
    require(0 < valid < 1, f"valid is {valid}: give images, or the share of the training images, such as 0.1.")
    return float(valid)


def _integers(name: str, array: Any, levels: int | None) -> Tensor:
    require(
        isinstance(array, np.ndarray | Tensor),
        f"{name} is a {type(array).__name__}: give a NumPy array or a PyTorch tensor.",
        TypeError,
    )
    kind = str(array.dtype)
    if isinstance(array, Tensor):
        require(not array.is_complex(), f"{name} has type {kind}: give integers.", TypeError)
        tensor = array.detach().cpu()
    else:
        require(array.dtype.kind in "buif", f"{name} has type {kind}: give integers.", TypeError)
        wide = {"f": np.float64, "u": np.uint64, "i": np.int64}.get(array.dtype.kind)
        small = array.dtype in (np.bool_, np.uint8)
        # A tensor needs the machine's order of bytes, positive strides, and memory that it may write to.
        tensor = torch.from_numpy(np.require(array if small else array.astype(wide), requirements=("C", "W")))
    if tensor.is_floating_point():
        _require_whole(name, array, tensor, levels)
    return tensor if tensor.dtype in (torch.bool, torch.uint8) else tensor.to(torch.int64)


def _require_whole(name: str, array: Array, tensor: Tensor, levels: int | None) -> None:
    """Refuses floats, unless they are whole numbers and plainly levels: 0.0 and 1.0 alone could be either."""
    if not tensor.numel():
        return
    least, most = float(tensor.min()), float(tensor.max())  # NaN if there is one
    if bool((tensor == tensor.round()).all()) and (most > 1 or levels is not None):
        return
    as_bytes = "to(torch.uint8)" if isinstance(array, Tensor) else "astype('uint8')"
    advice = f"round them, {name}.round(), if they are levels"
    if -1 <= least < 0 and most <= 1:
        advice = f"if that is black to white, give (({name} + 1) * 127.5).round().{as_bytes}"
    elif 0 <= least and most <= 1:
        advice = f"if that is black to white, give ({name} * 255).round().{as_bytes}"
    raise ValueError(f"{name} has type {array.dtype} and values from {least:g} to {most:g}: {advice}.")


def _axes(name: str, tensor: Tensor) -> Tensor:
    """Brings the axes to `[N, C, H, W]`."""
    shape = tuple(tensor.shape)
    require(
        len(shape) in (3, 4) and 0 not in shape,
        f"{name} has shape {shape}: give [N, H, W], [N, C, H, W] or, channels last, [N, H, W, 3].",
    )
    if len(shape) == 3:
        return tensor[:, None]
    if shape[1] in (1, 3):
        return tensor
    require(
        shape[3] not in (2, 4) or shape[1] <= 4,
        f"{name} has shape {shape}, which looks like {shape[3]} channels last: drop transparency "
        f"({name}[..., :{shape[3] - 1}]), or move the channels to axis 1.",
    )
    if shape[3] in (1, 3):
        tensor = tensor.movedim(-1, 1).contiguous()
    return tensor


def _levels(fields: dict[str, Tensor], levels: int | None) -> int:
    """The number of levels: as told, else 256 for bytes and 2 for bools, else as many as there are."""
    least = min(int(tensor.min()) for tensor in fields.values())
    most = max(int(tensor.max()) for tensor in fields.values())
    require(least >= 0, f"images have values from {least} to {most}: levels are counted from 0.")
    if levels is None:
        kinds = {tensor.dtype for tensor in fields.values()}
        levels = 256 if kinds == {torch.uint8} else max(2, most + 1)
        require(levels <= MOST, f"images have values up to {most}: give levels, if that is meant.")
    require(most < levels, f"images have values from {least} to {most}, but levels is {levels}.")
    return levels


def _labels(part: str, labels: Any, count: int) -> Tensor | None:
    if labels is None:
        return None
    try:
        tensor = torch.as_tensor(labels).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{part}_labels are a {type(labels).__name__} of no numbers: give integers.") from None
    hint = ", such as labels.argmax(1)" if tensor.dim() == 2 else ""
    require(
        tensor.shape == (count,) and not tensor.is_floating_point() and not tensor.is_complex(),
        f"{part}_labels have type {tensor.dtype} and shape {tuple(tensor.shape)}: give {count} integers{hint}.",
    )
    return tensor.to(torch.int64)


def _classes(labels: list[Tensor | None]) -> tuple[str, ...]:
    """Names for classes that have none: their numbers."""
    most = max((int(some.max()) for some in labels if some is not None), default=-1)
    require(most < MOST, f"labels run up to {most}: give classes, if that is meant.")
    return tuple(map(str, range(most + 1)))
