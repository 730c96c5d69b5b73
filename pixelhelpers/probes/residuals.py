"""What do neighbours share that a model did not know? `agreement`, the correlation of residuals by distance."""

import torch
from torch import Tensor

from ..errors import require


def agreement(residuals: Tensor, where: Tensor, reach: int = 2) -> Tensor:
    """Correlates each pixel's residual with those of its neighbours.

    A residual is what a model did not know of a pixel: its distance from the predicted mean, in units of the
    predicted spread. A model that draws pixels independently draws residuals whose correlations are 0. Where
    those of real images are not, the pixels have something in common that the model missed.

    Arguments:
        residuals: float `[N, H, W]`; clamp them, or a few outliers decide.
        where: bool `[N, H, W]`, the pixels that count, such as those of which the model was unsure; a pair counts
            where both do.
        reach: greatest distance, in rows and in columns.

    Returns:
        float `[2 * reach + 1, 2 * reach + 1]`: at `[reach + down, reach + right]` the correlation with the pixel so
        far down and to the right. NaN in the middle, and where there are no pairs to correlate.

    Raises:
        ValueError: for shapes that differ, or a reach beyond the image.

    Example:
        >>> rows = torch.randn(50, 8, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 8)
        >>> agreement(rows, torch.ones(50, 8, 8, dtype=torch.bool), reach=1).round(decimals=1)[1]
        tensor([1., nan, 1.])
    """
    require(
        residuals.dim() == 3 and residuals.shape == where.shape,
        f"residuals have shape {tuple(residuals.shape)}, and where {tuple(where.shape)}: give [N, H, W] for both",
    )
    height, width = residuals.shape[1:]
    require(
        0 < reach < min(height, width), f"reach is {reach} for {height} × {width} pixels: give one from 1 below those"
    )
    found = residuals.new_full((2 * reach + 1, 2 * reach + 1), float("nan"))
    for down in range(reach + 1):
        for right in range(-reach, reach + 1):
            if (down, right) > (0, 0):
                value = _correlation(residuals, where, down, right)
                found[reach + down, reach + right] = found[reach - down, reach - right] = value
    return found


def _correlation(residuals: Tensor, where: Tensor, down: int, right: int) -> Tensor:
    height, width = residuals.shape[1:]
    left, aside = max(-right, 0), max(right, 0)

    def pair(x: Tensor) -> tuple[Tensor, Tensor]:  # each pixel that has such a neighbour, and the neighbour
        return x[:, : height - down, left : width - aside], x[:, down:, aside : width - left]

    here, there = pair(residuals)
    both = torch.logical_and(*pair(where))
    if both.sum() < 2:
        return residuals.new_tensor(float("nan"))
    return torch.corrcoef(torch.stack([here[both], there[both]]))[0, 1]
