"""Masked as shifted and shifted as masked: `ShiftedPair`, `to_shifted`, `to_masked`, and `rewritten` for whole models.

References:
    van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel Recurrent Neural Networks", 2016, section 3.4,
    https://arxiv.org/abs/1601.06759
    Salimans, Karpathy, Chen, Kingma, "PixelCNN++", 2017, https://arxiv.org/abs/1701.05517, and its code,
    https://github.com/openai/pixel-cnn
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .errors import require
from .layers import (
    DownRightShiftedConv2d,
    DownRightShiftedConvTranspose2d,
    DownShiftedConv2d,
    DownShiftedConvTranspose2d,
    MaskedConv2d,
    shift_down,
    shift_right,
)

SHIFTED = (
    DownShiftedConv2d,
    DownRightShiftedConv2d,
    DownShiftedConvTranspose2d,
    DownRightShiftedConvTranspose2d,
)


class ShiftedPair(nn.Module):
    """A masked convolution written without a mask: the sum of two shifted ones.

    The k // 2 rows above the centre are one rectangle, what is left of the centre is another.

    Arguments:
        mask_type: "A" for the first layer (a value must not see itself), "B" for all later ones.
        in_channels: number of input features.
        out_channels: number of output features.
        kernel_size: odd side k of the kernel, in pixels; for type A at least 3.

    Shapes:
        input `[N, in_channels, H, W]`, output `[N, out_channels, H, W]`.

    Raises:
        ValueError: for another mask type or kernel.

    References:
        van den Oord et al. 2016, section 3.4 (the mask); the code of Salimans et al. 2017 (the shifts).

    Example:
        >>> pair = ShiftedPair("A", 1, 8, 7)
        >>> pair.above.weight[0, 0].numel() + pair.beside.weight[0, 0].numel()
        24
    """

    def __init__(self, mask_type: str, in_channels: int, out_channels: int, kernel_size: int):
        require(mask_type in ("A", "B"), f"mask_type is {mask_type!r}: give 'A' (first layer) or 'B' (later layers).")
        reach = kernel_size // 2
        require(
            kernel_size % 2 == 1 and kernel_size >= (3 if mask_type == "A" else 1),
            f"kernel_size is {kernel_size}: give an odd number, for type A at least 3.",
        )
        super().__init__()
        self.mask_type = mask_type
        self.above = DownShiftedConv2d(in_channels, out_channels, (reach, kernel_size), bias=False) if reach else None
        self.beside = DownRightShiftedConv2d(in_channels, out_channels, (1, reach + (mask_type == "B")))

    def forward(self, x: Tensor) -> Tensor:
        out = self.beside(shift_right(x) if self.mask_type == "A" else x)
        return out if self.above is None else out + self.above(shift_down(x))


def to_shifted(layer: MaskedConv2d) -> ShiftedPair:
    """Rewrites a masked convolution as the sum of two shifted ones: the same map, and the same gradients.

    Arguments:
        layer: with a square kernel and one image channel. With more, the centre is open for some channels
            and shut for others, and a shift treats all channels alike.

    Returns:
        a new layer with copies of the weights.

    Raises:
        ValueError: for other layers.

    Example:
        >>> layer, x = MaskedConv2d("B", 4, 4, 5), torch.randn(2, 4, 9, 9)
        >>> bool(torch.allclose(to_shifted(layer)(x), layer(x), atol=1e-5))
        True
    """
    rows, columns = layer.kernel_size
    require(
        rows == columns and layer.image_channels == 1,
        f"the layer has a kernel of {rows}x{columns} and {layer.image_channels} image channels: "
        "only square kernels of one channel are sums of two shifts.",
    )
    pair = ShiftedPair(layer.mask_type, layer.in_channels, layer.out_channels, rows).to(layer.weight)
    with torch.no_grad():
        pair.beside.weight.copy_(layer.weight[:, :, [rows // 2], : pair.beside.kernel_size[1]])
        pair.beside.bias.copy_(layer.bias)
        if pair.above is not None:
            pair.above.weight.copy_(layer.weight[:, :, : rows // 2])
    return pair


class _Mask(nn.Module):
    """Keeps the weights under a mask at zero, for `torch.nn.utils.parametrize`."""

    mask: Tensor

    def __init__(self, mask: Tensor):
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def to_masked(layer: nn.Module) -> nn.Conv2d | nn.ConvTranspose2d:
    """Rewrites a shifted convolution, strided or transposed too, as one with a square masked kernel.

    Arguments:
        layer: a `DownShiftedConv2d`, a `DownRightShiftedConv2d`, or one of their transposed forms.

    Returns:
        a new layer with copies of the weights, each tap where the shift had it, and zeros that never learn.
        PixelCNN++'s kernels of 2x3 and 2x2 become 3x3.

    Raises:
        TypeError: for other layers.

    Example:
        >>> masked = to_masked(DownRightShiftedConv2d(1, 1, (2, 2)))
        >>> masked.weight[0, 0].ne(0).int()
        tensor([[1, 1, 0],
                [1, 1, 0],
                [0, 0, 0]], dtype=torch.int32)
    """
    require(isinstance(layer, SHIFTED), f"layer is a {type(layer).__name__}: give a shifted convolution.", TypeError)
    both_sides = isinstance(layer, DownShiftedConv2d | DownShiftedConvTranspose2d)
    rows, columns = layer.kernel_size
    reach = max(rows - 1, columns // 2 if both_sides else columns - 1)
    first = (reach - rows + 1, reach - (columns // 2 if both_sides else columns - 1))
    if isinstance(layer, nn.ConvTranspose2d):  # the same seen from the input: what it acts on lies below and right
        first = tuple(2 * reach + 1 - begin - side for begin, side in zip(first, layer.kernel_size, strict=True))
    live = (slice(first[0], first[0] + rows), slice(first[1], first[1] + columns))
    kind = nn.ConvTranspose2d if isinstance(layer, nn.ConvTranspose2d) else nn.Conv2d
    square = kind(
        layer.in_channels, layer.out_channels, 2 * reach + 1, layer.stride, reach, bias=layer.bias is not None
    ).to(layer.weight)
    mask = torch.zeros(square.kernel_size, dtype=torch.bool, device=layer.weight.device)
    mask[live] = True
    with torch.no_grad():
        square.weight.zero_()[(slice(None), slice(None), *live)] = layer.weight
        if layer.bias is not None:
            square.bias.copy_(layer.bias)
    parametrize.register_parametrization(square, "weight", _Mask(mask))
    return square


def rewritten(
    model: nn.Module, kinds: type[nn.Module] | tuple[type[nn.Module], ...], convert: Callable[[nn.Module], nn.Module]
) -> nn.Module:
    """Copies a model and replaces its layers of some kind.

    Arguments:
        model: the model, which stays as it is.
        kinds: which layers to replace.
        convert: maps a layer to its replacement, such as `to_shifted` or `to_masked`.

    Example:
        >>> model = nn.Sequential(MaskedConv2d("A", 1, 4, 7), nn.ReLU(), MaskedConv2d("B", 4, 4, 3))
        >>> [type(layer).__name__ for layer in rewritten(model, MaskedConv2d, to_shifted)]
        ['ShiftedPair', 'ReLU', 'ShiftedPair']
    """
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, kinds):
                setattr(parent, name, convert(layer))
    return model
