"""Images changed: `coloured` paints grey ones, `random_shift` moves them."""

from dataclasses import replace

import torch

from ..errors import require
from .images import Images


def coloured(images: Images, levels: int = 256, seed: int = 0) -> Images:
    """Paints grey images in colours of their own: a bright one for the figure, a dark one behind it.

    Both hues are random, image by image, so the first pixel says much about all others, and red about
    green about blue: a set that a model can only predict well when it uses the channels before.

    Arguments:
        images: a grey set, such as the bundled digits.
        levels: how many values a channel can take, 2 to 256.
        seed: of the hues.

    Returns:
        the set with images `[N, 3, H, W]` in `[0, levels)`.

    Raises:
        ValueError: for images that have colours already, or for another number of levels.

    Example:
        >>> from pixelhelpers import load_images
        >>> coloured(load_images("digits"), levels=8)
        Images('coloured digits': 4000 train, 500 valid, 500 test, 3×28×28, 8 levels, 10 classes)
    """
    require(
        images.train.shape[1] == 1 and 2 <= levels <= 256,
        f"images have {images.train.shape[1]} channels and levels is {levels}: give a grey set and 2 to 256 levels.",
    )
    generator = torch.Generator().manual_seed(seed)

    def paint(grey: torch.Tensor) -> torch.Tensor:
        hues = 6 * torch.rand(2, len(grey), 1, 1, 1, generator=generator)
        bright, dark = ((hues + torch.tensor([0.0, 4.0, 2.0]).view(3, 1, 1)) % 6 - 3).abs().sub(1).clamp(0, 1)
        share = grey / (images.levels - 1)
        return ((share * bright + (1 - share) * 0.4 * dark) * (levels - 1)).round().to(torch.uint8)

    parts = {part: paint(getattr(images, part)) for part in ("train", "valid", "test")}
    return replace(images, **parts, name=f"coloured {images.name}", levels=levels)


def random_shift(images: torch.Tensor, most: int = 1) -> torch.Tensor:
    """Shifts each image by a few pixels at random, up or down and left or right: an augmentation for `fit`.

    What enters at the border is 0, the background of the digits and clothes; what leaves is lost. The shifts
    come from PyTorch's global generator, every one from `-most` to `most` as often in both directions.

    Arguments:
        images: integers `[N, C, H, W]`.
        most: largest shift in pixels, smaller than the image's sides; 0 gives a copy.

    Returns:
        images of the same shape and type.

    Raises:
        ValueError: for other axes, or for a shift by more than there is.

    Example:
        >>> from functools import partial
        >>> twice_as_far = partial(random_shift, most=2)  # for fit(…, augment=twice_as_far)
        >>> dot = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
        >>> dot[0, 0, 2, 2] = 9
        >>> int(twice_as_far(dot).sum())
        9
    """
    require(images.dim() == 4, f"images have shape {tuple(images.shape)}: give [N, C, H, W].")
    height, width = images.shape[-2:]
    require(
        0 <= most < min(height, width),
        f"most is {most}: give 0 to {min(height, width) - 1} for images of {height} x {width}.",
    )
    padded = torch.nn.functional.pad(images, (most, most, most, most))
    start = torch.randint(2 * most + 1, (2, len(images), 1)).to(images.device)
    rows = start[0] + torch.arange(height, device=images.device)  # [N, H]
    columns = start[1] + torch.arange(width, device=images.device)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    shifted = padded[batch, :, rows[:, :, None], columns[:, None, :]]  # [N, H, W, C]
    return shifted.movedim(-1, 1).contiguous()
