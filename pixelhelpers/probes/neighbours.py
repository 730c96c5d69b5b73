"""Whom does it copy? `nearest_neighbours` among other images, and the `Neighbours` that it finds."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments import whole
from ..errors import require

CHUNK = 64  # images whose neighbours are looked for at once
PER_PRODUCT = 2048  # images of a data set compared at once


class Neighbours(NamedTuple):
    """What `nearest_neighbours` found, nearest first; of two at the same distance the earlier one first."""

    indices: Tensor  # int64 `[N, count]`: places in `among`
    distances: Tensor  # float64 `[N, count]`: root mean square difference, in levels


@torch.no_grad()
def nearest_neighbours(images: Tensor, among: Tensor, count: int = 1, shift: int = 1) -> Neighbours:
    """Finds the images that are nearest to the given ones, also when they lie a little aside.

    The plain distance compares pixel with pixel. It is fooled by a shift of one or two pixels: edges no longer
    meet, and some other image, often a dark or a smooth one, is nearer than the original. So each image is
    laid over every candidate with all shifts by up to `shift` pixels, up or down and left or right. The root
    mean square difference is taken over the values where both overlap, and the smallest counts. A copy has
    distance 0, and so has a shifted copy, whatever entered at its border.

    Arguments:
        images: integers `[N, C, H, W]`, tensor or array of NumPy, such as samples of a model.
        among: integers `[M, C, H, W]`, likewise, such as its training images; they may be many.
        count: neighbours for each image, at most M.
        shift: largest shift in pixels, at most a quarter of the shorter side (small overlaps, of black corners
            say, would look alike); 0 gives the plain distance.

    Returns:
        `Neighbours` with `.indices` and `.distances`, both `[N, count]`.

    Raises:
        ValueError: for images of different shapes, or a count or shift beyond what there is.

    References:
        Theis, van den Oord, Bethge, "A note on the evaluation of generative models", 2016,
        https://arxiv.org/abs/1511.01844

    Example:
        >>> among = torch.randint(256, (50, 1, 8, 8), generator=torch.Generator().manual_seed(0))
        >>> moved = among[[7]].roll((1, -1), (2, 3))
        >>> nearest_neighbours(moved, among)
        Neighbours(indices=tensor([[7]]), distances=tensor([[0.]], dtype=torch.float64))
        >>> float(nearest_neighbours(moved, among, shift=0).distances) > 50
        True
    """
    images, among = torch.as_tensor(images), torch.as_tensor(among)
    require(
        images.dim() == 4 and among.dim() == 4 and images.shape[1:] == among.shape[1:],
        f"images have shape {tuple(images.shape)}, and among {tuple(among.shape)}: give [N, C, H, W] and "
        "[M, C, H, W] of the same C, H, W.",
    )
    require(
        whole("count", count) in range(1, len(among) + 1),
        f"count is {count}: give 1 to {len(among)}, as many as there are images.",
    )
    require(
        whole("shift", shift) in range(min(images.shape[-2:]) // 4 + 1),
        f"shift is {shift}: give 0 to {min(images.shape[-2:]) // 4}, a quarter of the shorter side.",
    )
    found = [_nearest(part, among, count, shift) for part in images.cpu().split(CHUNK)]
    return Neighbours(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _nearest(images: Tensor, among: Tensor, count: int, shift: int) -> tuple[Tensor, Tensor]:
    """The nearest of `among` for a few images.

    |a - b|^2 = |a|^2 - 2 ab + |b|^2, so that matrix products do the work: with every shifted image, 0 where it
    does not overlap, and with every overlap. In double precision sums of squared levels are exact integers.
    """
    everywhere = torch.ones(1, *images.shape[1:], dtype=torch.double)
    overlaps = torch.cat(_shifts(everywhere, shift)).flatten(1)  # [shifts, C H W]
    moved = torch.stack(_shifts(images.double(), shift)).flatten(2)  # [shifts, N, C H W]
    squares, sizes = moved.square().sum(-1), overlaps.sum(1)
    nearest, indices = (torch.empty(len(images), 0, dtype=dtype) for dtype in (torch.double, torch.long))
    for start in range(0, len(among), PER_PRODUCT):
        part = among[start : start + PER_PRODUCT].cpu().double().flatten(1)  # [M, C H W]
        products = torch.einsum("snd,md->snm", moved, part)
        theirs = overlaps @ part.square().T  # [shifts, M]
        distance = (squares[..., None] - 2 * products + theirs[:, None]) / sizes[:, None, None]
        nearest = torch.cat([nearest, distance.amin(0)], 1)
        indices = torch.cat([indices, torch.arange(start, start + len(part)).expand(len(images), -1)], 1)
        nearest, order = nearest.sort(dim=1, stable=True)
        nearest, indices = nearest[:, :count], indices.gather(1, order[:, :count])
    return indices, nearest.sqrt()


def _shifts(images: Tensor, most: int) -> list[Tensor]:
    """The images moved by every shift up to `most` pixels, 0 where they came from outside."""
    height, width = images.shape[-2:]
    padded = torch.nn.functional.pad(images, (most, most, most, most))
    steps = range(2 * most + 1)
    return [padded[..., row : row + height, column : column + width] for row in steps for column in steps]
