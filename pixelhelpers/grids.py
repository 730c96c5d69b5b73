"""Pictures in a grid: many images as one, `image_grid`, and as a PNG file, `save_grid`."""

from pathlib import Path

from torch import Tensor


def image_grid(images: Tensor, columns: int = 8, levels: int = 256) -> Tensor:
    """Lays images out in a grid of floats in [0, 1], as torchvision and matplotlib show them.

    Arguments:
        images: integers `[N, C, H, W]`, values in `[0, levels)`.
        columns: images per row.
        levels: number of levels.

    Returns:
        float `[3, height, width]`, with a border of two pixels around each image.

    Example:
        >>> import torch
        >>> image_grid(torch.zeros(16, 1, 28, 28, dtype=torch.uint8)).shape
        torch.Size([3, 62, 242])
    """
    from torchvision.utils import make_grid

    return make_grid(images.float() / (levels - 1), nrow=columns, pad_value=0.5)


def save_grid(images: Tensor, path: str | Path, columns: int = 8, levels: int = 256, zoom: int = 3) -> None:
    """Writes images as one PNG file, enlarged without smoothing.

    Arguments:
        images: integers `[N, C, H, W]`, values in `[0, levels)`.
        path: the file to write.
        columns: images per row.
        levels: number of levels.
        zoom: screen pixels per image pixel, at least 1.

    Example:
        >>> import tempfile, torch
        >>> file = Path(tempfile.mkdtemp()) / "grid.png"
        >>> save_grid(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), file)
    """
    from torchvision.utils import save_image

    save_image(image_grid(images, columns, levels).repeat_interleave(zoom, 1).repeat_interleave(zoom, 2), path)
