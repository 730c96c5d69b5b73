"""Where does attention look, and what does it store? `attention_maps`, `weight_by_offset`, `LargestTensor`."""

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..models.attention import CausalAttention


def attention_maps(model: nn.Module, x: Tensor, label: int | Tensor | None = None) -> list[Tensor]:
    """Collects what every attention layer of a model weighs values with, in the order in which they run.

    Arguments:
        model: a module with `CausalAttention` layers.
        x: images `[N, C, H, W]`, integers in `[0, levels)`.
        label: class or classes `[N]`, for a model with classes.

    Returns:
        a tensor `[N, heads, H * W, H * W]` for each layer: query, then place (0: the start token, k: pixel k - 1).

    Example:
        >>> from pixelhelpers.models import PixelSNAIL
        >>> (maps,) = attention_maps(PixelSNAIL(hidden=8, blocks=1), torch.zeros(2, 1, 4, 4))
        >>> maps.shape
        torch.Size([2, 2, 16, 16])
    """
    maps: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda layer, given, _: maps.append(layer.weights(*given)))
        for layer in model.modules()
        if isinstance(layer, CausalAttention)
    ]
    try:
        with torch.inference_mode():
            model(x) if label is None else model(x, label)
    finally:
        for hook in hooks:
            hook.remove()
    return maps


def weight_by_offset(weights: Tensor, shape: tuple[int, int], from_row: int = 0) -> Tensor:
    """Adds up attention by how far a pixel lies from its query, as the mean over queries.

    Arguments:
        weights: `[..., H * W, H * W]`, as in `attention_maps`: query, then place.
        shape: (height, width) of the images.
        from_row: the first row whose pixels count as queries.

    Returns:
        `[..., H, 2 * W - 1]`: a picture of offsets with the query in the middle of its last row. It adds up to 1, less
            the weight on the start token.

    Example:
        >>> first = torch.zeros(4, 4)
        >>> first[:, 1] = 1  # every query looks at pixel 0
        >>> weight_by_offset(first, (2, 2), from_row=1)
        tensor([[0.5000, 0.5000, 0.0000],
                [0.0000, 0.0000, 0.0000]])
    """
    height, width = shape
    pixel = torch.arange(height * width, device=weights.device)
    query = pixel[from_row * width :, None]
    down, right = pixel // width - query // width, pixel % width - query % width
    earlier = (pixel < query)[:, :-1]  # no query comes after the last pixel
    place = ((height - 1 + down) * (2 * width - 1) + width - 1 + right)[:, :-1][earlier]
    looks = weights[..., from_row * width :, 1:][..., earlier]
    total = looks.new_zeros(*looks.shape[:-1], height * (2 * width - 1)).index_add(-1, place, looks)
    return (total / len(query)).unflatten(-1, (height, 2 * width - 1))


class LargestTensor(TorchDispatchMode):
    """Notes the size of the largest tensor that comes out of any operation run inside it, in `bytes`.

    What an operation keeps for itself meanwhile does not count.

    Example:
        >>> with LargestTensor() as largest:
        ...     total = (torch.ones(100, 1) + torch.ones(100)).sum()
        >>> largest.bytes
        40000
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else (result,):
            if isinstance(part, Tensor):
                self.bytes = max(self.bytes, part.numel() * part.element_size())
        return result
