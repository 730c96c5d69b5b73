"""A set of images in three splits: `Images`; the `value_type` of images."""

from dataclasses import dataclass

import torch


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

    Arguments:
        train, valid, test: images, uint8 `[N, C, H, W]` in `[0, levels)`.
        train_labels, valid_labels, test_labels: their classes, int64 `[N]` in `[0, len(classes))`.
        name: what `load_images` calls the set.
        levels: how many values a pixel can take.
        classes: the name of each class.

    Example:
        >>> from pixelhelpers import load_images
        >>> load_images("digits")
        Images('digits': 4000 train, 500 valid, 500 test, each 1×28×28 with 256 levels, 10 classes)
    """

    train: torch.Tensor
    valid: torch.Tensor
    test: torch.Tensor
    train_labels: torch.Tensor
    valid_labels: torch.Tensor
    test_labels: torch.Tensor
    name: str
    levels: int
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        counts = f"{len(self.train)} train, {len(self.valid)} valid, {len(self.test)} test"
        kinds = (
            f"each {'×'.join(map(str, self.train.shape[1:]))} with {self.levels} levels, {len(self.classes)} classes"
        )
        return f"Images({self.name!r}: {counts}, {kinds})"
