"""A set of images in three splits: `Images`, `require_images` for who gives something else; `value_type` of images."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..arguments import whole
from ..errors import require
from .arrays import split_arrays
from .folders import read_folder

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def value_type(levels: int) -> torch.dtype:
    """Gives the integer type in which images are held: bytes as long as they suffice.

    PyTorch has unsigned types of 16 and more bits, but hardly an operation for them.

    Arguments:
        levels: how many values a pixel can take.

    Example:
        >>> value_type(256), value_type(512)
        (torch.uint8, torch.int64)
    """
    return torch.uint8 if levels <= 256 else torch.int64


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """A set of images in three splits.

    `Images.from_folder` and `Images.from_arrays` make one of your own pictures, `load_images` of a published set.

    Arguments:
        train, valid, test: images `[N, C, H, W]`, integers in `[0, levels)` (uint8 up to 256 levels, int64 above).
            There may be none for a test: then `.test` is empty, `[0, C, H, W]`.
        train_labels, valid_labels, test_labels: their classes, int64 `[N]` in `[0, len(classes))`, or None.
        name: what to call the set.
        levels: how many values a pixel can take, at least 2.
        classes: the name of each class; without labels there may be none.
        unread: the files of a folder that could not be read, each with the reason.

    Raises:
        TypeError, ValueError: for fields that do not fit.

    Example:
        >>> from pixelhelpers import load_images
        >>> load_images("digits")
        Images('digits': 4000 train, 500 valid, 500 test, 1×28×28, 256 levels, 10 classes)
    """

    train: Tensor
    valid: Tensor
    test: Tensor | None = None
    train_labels: Tensor | None = None
    valid_labels: Tensor | None = None
    test_labels: Tensor | None = None
    name: str = "images"
    levels: int = 256
    classes: tuple[str, ...] = ()
    unread: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        levels = whole("levels", self.levels, 2)
        require(isinstance(self.name, str), f"name is a {type(self.name).__name__}: give a text.", TypeError)
        named = not isinstance(self.classes, str) and all(isinstance(name, str) for name in self.classes)
        require(named, f"classes is {self.classes!r}: give the name of each class.", TypeError)
        self._settle(levels=levels, classes=tuple(self.classes))
        for part in ("train", "valid", "test"):
            if part == "test" and self.test is None:
                self._settle(test=self.train[:0])
            self._require_images(part)
            self._require_labels(part)

    @classmethod
    def from_folder(
        cls,
        path: str | os.PathLike,
        size: int | tuple[int, int],
        channels: int = 1,
        valid: float = 0.1,
        *,
        seed: int = 0,
        progress: bool = True,
    ) -> "Images":
        """Loads a folder of pictures, whatever their formats, sizes and modes.

        The pictures lie in the folder itself, or in one subfolder for each class, which names it. If there is a
        `train/`, and perhaps a `valid/` (or `val/`) and a `test/`, these are the splits, laid out in either way.
        Without a `valid/`, a share of the training pictures is held out. The content of the files and the seed decide
        which ones, and how all are shuffled; so it is the same on every machine, and copies of one file stay in one
        split. Without a `test/`, `.test` is empty.

        Each picture is made upright (EXIF), shrunk or enlarged until it just covers the size, and cut to its middle.
        What one could see through becomes white, 16 bits become 8, and of several frames the first counts. Hidden
        files and files without a picture's ending are ignored. What cannot be read is left out: a line says so, and
        `.unread` names it.

        Arguments:
            path: the folder.
            size: height and width in pixels, or one number for both.
            channels: 1 for grey, 3 for colour.
            valid: share of the training pictures to validate with, in (0, 1), where there is no `valid/`.
            seed: of that choice, and of the order.
            progress: show a progress bar.

        Returns:
            `Images` with 256 levels, named after the folder. The classes are sorted by name; without subfolders there
            are neither labels nor classes.

        Raises:
            ValueError, TypeError: for a size, channels or share that cannot be.
            DataError: when there is no such folder, none of its files can be read, its layout can be understood in two
                ways, or the pictures would not fit in memory; all but the second before any is read.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from PIL import Image
            >>> folder = Path(tempfile.mkdtemp()) / "greys"
            >>> folder.mkdir()
            >>> for level in range(20):
            ...     Image.new("L", (40 + level, 30), level).save(folder / f"{level}.png")
            >>> Images.from_folder(folder, size=8, progress=False)
            Images('greys': 18 train, 2 valid, no test, 1×8×8, 256 levels, no classes)
        """
        return cls(**read_folder(path, size, channels, valid, seed, progress))

    @classmethod
    def from_arrays(
        cls,
        train: np.ndarray | Tensor,
        valid: np.ndarray | Tensor | float | None = None,
        test: np.ndarray | Tensor | None = None,
        *,
        train_labels: Any = None,
        valid_labels: Any = None,
        test_labels: Any = None,
        levels: int | None = None,
        classes: Sequence[str] | None = None,
        name: str = "arrays",
        seed: int = 0,
    ) -> "Images":
        """Takes arrays of NumPy or PyTorch as a set of images: pictures, or codes of any number of levels.

        Arguments:
            train: integers of any type, `[N, H, W]`, `[N, C, H, W]` or `[N, H, W, C]` with 1 or 3 channels; where axis
                1 has 1 or 3 entries, it is the channels. Floats are taken only when they are whole numbers beyond 1.
            valid: the same; or the share of the training images to hold out, None for 0.1. Their values and the seed
                decide which ones; equal images stay in one split.
            test: the same; None: `.test` is empty.
            train_labels, valid_labels, test_labels: class of each image, integers `[N]`, for all splits or none.
                Those of a held-out share are taken from `train_labels`.
            levels: how many values a pixel can take. None: 256 for uint8, 2 for bool, and for other types as many as
                the images have, the largest value and one.
            classes: the name of each class; None calls them "0", "1", …
            name: what to call the set.
            seed: of the choice of a share.

        Returns:
            `Images`, uint8 up to 256 levels, int64 above.

        Raises:
            ValueError, TypeError: for other axes or types, values off the levels, or floats such as those in [0, 1];
                the message says how to convert them.

        Example:
            >>> codes = np.random.default_rng(0).integers(0, 512, (100, 8, 8))
            >>> Images.from_arrays(codes, levels=512, name="codes")
            Images('codes': 90 train, 10 valid, no test, 1×8×8, 512 levels, no classes)
        """
        images = {"train": train, "valid": valid, "test": test}
        labels = {"train": train_labels, "valid": valid_labels, "test": test_labels}
        fields = split_arrays(images, labels, levels, classes, seed)
        fields |= {part: fields[part].to(value_type(fields["levels"])) for part in images if part in fields}
        return cls(**fields, name=name)

    def __repr__(self) -> str:
        counts = f"{len(self.train)} train, {len(self.valid)} valid, {len(self.test) or 'no'} test"
        kinds = f"{len(self.classes) or 'no'} classes"
        unread = f", {len(self.unread)} files unread" if self.unread else ""
        shape = "×".join(map(str, self.train.shape[1:]))
        return f"Images({self.name!r}: {counts}, {shape}, {self.levels} levels, {kinds}{unread})"

    def _settle(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _require_images(self, part: str) -> None:
        images = getattr(self, part)
        require(
            isinstance(images, Tensor),
            f"{part} is a {type(images).__name__}: give a tensor; Images.from_arrays takes more.",
            TypeError,
        )
        require(
            images.dim() == 4 and images.dtype in INTEGERS,
            f"{part} has type {images.dtype} and shape {tuple(images.shape)}: give integers [N, C, H, W]; "
            "Images.from_arrays takes other axes and types, and says how to convert floats.",
        )
        require(
            images.shape[1:] == self.train.shape[1:] and (len(images) > 0 or part == "test"),
            f"{part} has shape {tuple(images.shape)} and train {tuple(self.train.shape)}: give at least one image "
            "each, all of one size.",
        )
        if (images.dtype == torch.uint8 and self.levels >= 256) or not len(images):
            return  # bytes fit: nothing to look for
        least, most = int(images.min()), int(images.max())
        require(
            0 <= least and most < self.levels,
            f"{part} has values from {least} to {most}, but levels is {self.levels}: give integers from 0 to "
            f"{self.levels - 1}.",
        )

    def _require_labels(self, part: str) -> None:
        name, count = f"{part}_labels", len(getattr(self, part))
        labels = getattr(self, name)
        if labels is None:
            if not count and self.train_labels is not None:
                self._settle(test_labels=self.train_labels[:0])
            return
        require(isinstance(labels, Tensor), f"{name} is a {type(labels).__name__}: give a tensor.", TypeError)
        require(
            tuple(labels.shape) == (count,) and labels.dtype in INTEGERS,
            f"{name} has type {labels.dtype} and shape {tuple(labels.shape)}: give one integer per image, ({count},).",
        )
        require(
            not count or (0 <= int(labels.min()) and int(labels.max()) < len(self.classes)),
            f"{name} has other values than 0 … {len(self.classes) - 1}, and there are {len(self.classes)} classes: "
            "give classes the name of each.",
        )


def require_images(images: Any, classes: int | None = None) -> None:
    """Refuses what is no `Images`, and a set without labels where a model asks for them.

    Arguments:
        images: what somebody gave.
        classes: how many classes the model is conditioned on, or None.

    Example:
        >>> require_images(torch.zeros(4, 1, 8, 8, dtype=torch.uint8))
        Traceback (most recent call last):
        TypeError: images is a Tensor: give a set; ph.Images.from_arrays(train) makes one of arrays.
    """
    kind, advice = type(images).__name__, "ph.Images.from_arrays(train) makes one of arrays."
    if isinstance(images, torch.utils.data.DataLoader | torch.utils.data.Dataset):
        advice = "ph.Images.from_arrays(train) makes one of all its pictures, put into one array."
    elif isinstance(images, str | os.PathLike):
        advice = "ph.load_images(name) loads a published one, ph.Images.from_folder(path, size) makes one of pictures."
    require(isinstance(images, Images), f"images is a {kind}: give a set; {advice}", TypeError)
    missing = [f"images.{part}_labels" for part in ("train", "valid") if getattr(images, f"{part}_labels") is None]
    require(
        classes is None or not missing,
        f"{' and '.join(missing)} missing: the model knows {classes} classes; give labels, or a model without classes.",
    )
