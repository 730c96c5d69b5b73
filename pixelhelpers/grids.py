"""Pictures in a grid: many images as one, `image_grid`, as a PNG file, `save_grid`; what is `visible`."""

from pathlib import Path

from torch import Tensor

from .errors import require


def visible(images: Tensor, levels: int = 256, palette: Tensor | None = None) -> Tensor:
    """Gives images as floats in [0, 1], what can be shown: levels as brightness, codes in colours of a palette.

    Arguments:
        images: integers `[N, C, H, W]`, values in `[0, levels)`; with a palette C is 1.
        levels: number of levels. More than 256 are taken for codes, which have no brightness: give a palette.
        palette: the colour of each code, floats in [0, 1] `[levels, 3]`.

    Returns:
        float `[N, C, H, W]`, with a palette `[N, 3, H, W]`.

    Raises:
        ValueError: for codes without a palette, and values beyond the levels.

    Example:
        >>> import torch
        >>> codes = torch.randint(512, (2, 1, 8, 8))
        >>> visible(codes, levels=512, palette=torch.rand(512, 3)).shape
        torch.Size([2, 3, 8, 8])
    """
    require(
        levels <= 256 or palette is not None,
        f"levels is {levels}: codes have no brightness to show. Decode them and show that, or give palette, the "
        f"colour of each code, [{levels}, 3].",
    )
    most = int(images.max()) if images.numel() else 0
    require(most < levels, f"images have values up to {most}, levels is {levels}: give the number of levels.")
    if palette is None:
        return images.float() / (levels - 1)
    require(
        tuple(palette.shape) == (levels, 3) and images.shape[1] == 1,
        f"palette has shape {tuple(palette.shape)}, images {tuple(images.shape)}: give [{levels}, 3] and [N, 1, H, W].",
    )
    return palette.float().cpu()[images[:, 0].long().cpu()].movedim(-1, 1)


def image_grid(images: Tensor, columns: int = 8, levels: int = 256, palette: Tensor | None = None) -> Tensor:
    """Lays images out in a grid of floats in [0, 1], as torchvision and matplotlib show them.

    Arguments:
        images: integers `[N, C, H, W]`, values in `[0, levels)`.
        columns: images per row.
        levels: number of levels.
        palette: as for `visible`: the colours of codes, of more than 256 levels.

    Returns:
        float `[3, height, width]`, with a border of two pixels around each image.

    Example:
        >>> import torch
        >>> image_grid(torch.zeros(16, 1, 28, 28, dtype=torch.uint8)).shape
        torch.Size([3, 62, 242])
    """
    from torchvision.utils import make_grid

    return make_grid(visible(images, levels, palette), nrow=columns, pad_value=0.5)


def save_grid(
    images: Tensor,
    path: str | Path,
    columns: int = 8,
    levels: int = 256,
    zoom: int = 3,
    palette: Tensor | None = None,
) -> None:
    """Writes images as one PNG file, enlarged without smoothing.

    Arguments:
        images: integers `[N, C, H, W]`, values in `[0, levels)`.
        path: the file to write.
        columns: images per row.
        levels: number of levels.
        zoom: screen pixels per image pixel, at least 1.
        palette: as for `visible`.

    Example:
        >>> import tempfile, torch
        >>> file = Path(tempfile.mkdtemp()) / "grid.png"
        >>> save_grid(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), file)
    """
    from torchvision.utils import save_image

    grid = image_grid(images, columns, levels, palette)
    save_image(grid.repeat_interleave(zoom, 1).repeat_interleave(zoom, 2), path)
