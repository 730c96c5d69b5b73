"""Causal building blocks: convolutions that see only what is already there.

Images are read in raster order: row by row from the top, each row from left to right, and inside a
pixel channel by channel. A layer is causal when its output at a value depends on earlier values
only (type A), or on earlier values and the value itself (type B).

References:
    van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel Recurrent Neural Networks", 2016, sections 3.3-3.4,
    https://arxiv.org/abs/1601.06759
    van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", 2016, sections 2.1-2.3,
    https://arxiv.org/abs/1606.05328
    Salimans, Karpathy, Chen, Kingma, "PixelCNN++", 2017, section 2.3, https://arxiv.org/abs/1701.05517
"""

import copy
import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from .wavefront import Front, Past, Wavefront


def channel_groups(features: int, image_channels: int) -> Tensor:
    """Says which image channel each feature belongs to.

    Arguments:
        features: number of features, at least `image_channels`.
        image_channels: number of image channels (1 grey, 3 colour).

    Returns:
        int64 `[features]`, rising from 0 to `image_channels - 1` in groups as equal as can be.

    Example:
        >>> channel_groups(6, 3)
        tensor([0, 0, 1, 1, 2, 2])
    """
    if features < image_channels:
        raise ValueError(
            f"{features} features cannot be shared among {image_channels} image channels: "
            f"give at least {image_channels}."
        )
    return torch.arange(features) * image_channels // features


def _sides(kernel_size: int | tuple[int, int]) -> tuple[int, int]:
    rows, columns = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    if min(rows, columns) < 1 or rows % 2 == 0 or columns % 2 == 0:
        raise ValueError(f"kernel_size is {kernel_size}: give odd numbers, so that there is a centre.")
    return rows, columns


def raster_mask(
    mask_type: str,
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int],
    image_channels: int = 1,
) -> Tensor:
    """Makes the mask of a raster-order convolution.

    Everything above the centre row is open, everything to the left of the centre is open, everything
    to the right and below is shut. The centre connects an input to the outputs of later image channels,
    and in type B also to those of the same channel.

    Arguments:
        mask_type: "A" (strictly earlier values) or "B" (the value itself too).
        in_channels: number of input features.
        out_channels: number of output features.
        kernel_size: odd side k of the kernel, in pixels, or (rows, columns), both odd.
        image_channels: number of image channels that the features are shared among.

    Returns:
        bool `[1, 1, k, k]` for grey images, `[out_channels, in_channels, k, k]` for colour.

    Raises:
        ValueError: for another mask type or an even kernel.

    References:
        van den Oord et al. 2016, section 3.4, figure 2 (right).

    Example:
        >>> raster_mask("A", 1, 1, 3).int()[0, 0]
        tensor([[1, 1, 1],
                [1, 0, 0],
                [0, 0, 0]], dtype=torch.int32)
    """
    if mask_type not in ("A", "B"):
        raise ValueError(f"mask_type is {mask_type!r}: give 'A' (first layer) or 'B' (later layers).")
    rows, columns = _sides(kernel_size)
    row, column = rows // 2, columns // 2  # the centre
    of_input = channel_groups(in_channels, image_channels)
    of_output = channel_groups(out_channels, image_channels)
    if image_channels == 1:
        of_input, of_output = of_input[:1], of_output[:1]
    open_at_centre = of_input < of_output[:, None] if mask_type == "A" else of_input <= of_output[:, None]
    mask = torch.zeros(len(of_output), len(of_input), rows, columns, dtype=torch.bool)
    mask[:, :, :row] = True
    mask[:, :, row, :column] = True
    mask[:, :, row, column] = open_at_centre
    return mask


class MaskedConv2d(nn.Conv2d):
    """A convolution of stride 1 that keeps the image size and sees only earlier values.

    The weights are masked, not the image: each call multiplies them with the mask, so a masked weight
    never acts and its gradient is exactly 0. Kernel rows below the centre (in a kernel of one row, columns
    to its right) are always masked and are never computed. The initial weights are scaled to the number
    of live taps.

    Arguments:
        mask_type: "A" for the first layer (a value must not see itself), "B" for all later ones.
        in_channels: number of input features.
        out_channels: number of output features.
        kernel_size: odd side k of the kernel, in pixels, or (rows, columns), both odd.
        image_channels: 1 for grey images, 3 for colour, where R is drawn before G before B.

    Shapes:
        input `[N, in_channels, H, W]`, output `[N, out_channels, H, W]`.

    Raises:
        ValueError: for another mask type, an even kernel, or fewer features than image channels.

    References:
        van den Oord et al. 2016, section 3.4.

    Example:
        >>> layer = MaskedConv2d("A", in_channels=1, out_channels=8, kernel_size=7)
        >>> layer(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 8, 28, 28])
        >>> int(layer.mask.sum()), "of 49 taps are live"
        (24, 'of 49 taps are live')
    """

    mask: Tensor

    def __init__(
        self,
        mask_type: str,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        image_channels: int = 1,
    ):
        mask = raster_mask(mask_type, in_channels, out_channels, kernel_size, image_channels)
        self.mask_type, self.image_channels = mask_type, image_channels
        self._live_taps = mask.expand(out_channels, in_channels, -1, -1).sum((1, 2, 3))
        rows, columns = _sides(kernel_size)
        super().__init__(in_channels, out_channels, (rows, columns), padding=(rows // 2, columns // 2))
        self.register_buffer("mask", mask, persistent=False)
        self._has_shut_centre = not bool(mask[:, :, rows // 2, columns // 2].all())

    def reset_parameters(self) -> None:
        """Draws weights and biases from U(-b, b), b = 1 / sqrt(live taps of that output)."""
        bound = self._live_taps.clamp(min=1).rsqrt().to(self.weight)
        with torch.no_grad():
            self.weight.uniform_(-1, 1).mul_(bound[:, None, None, None])
            self.bias.uniform_(-1, 1).mul_(bound)

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (1, 1):
            weight = self.weight * self.mask if self._has_shut_centre else self.weight
            return F.conv2d(x, weight, self.bias)
        above, beside = self.padding
        return F.conv2d(F.pad(x, (beside, self.ahead, above, 0)), self.live(self.weight * self.mask), self.bias)

    @property
    def ahead(self) -> int:
        """How many columns to the right the kernel looks, in the rows above."""
        return self.padding[1] if self.padding[0] else 0

    def live(self, kernel: Tensor) -> Tensor:
        """Cuts a kernel `[..., rows, columns]` down to what is not always masked."""
        above, beside = self.padding
        return kernel[..., : above + 1, : beside + 1 + self.ahead]

    @property
    def lag(self) -> int:
        """By how many columns a row must be ahead, for the row below to have all it looks at."""
        return self.ahead + 1

    def stepper(self, wave: Wavefront) -> "ConvStep":
        """Gives the layer's other way to run: `step(front, x)`, one front of pixels at a time.

        Arguments:
            wave: the fronts, of a lag of at least the layer's.

        Example:
            >>> layer, x = MaskedConv2d("B", 1, 8, 3), torch.randn(2, 1, 4, 6)
            >>> wave = Wavefront(2, (1, 4, 6), layer.lag, like=x)
            >>> step, values = layer.stepper(wave), wave.by_front(x)
            >>> y = [step(front, values[0, front.pixels].view(-1, 1)) for front in wave]
            >>> bool(torch.allclose(y[0], layer(x)[:, :, 0, 0], atol=1e-5))
            True
        """
        alone = self.kernel_size == (1, 1) and self.mask_type == "B"  # it looks at nothing but the pixel itself
        window = None if alone else (*self.padding, self.ahead)
        return ConvStep(wave, self.live(self.weight * self.mask), self.bias, window, self.image_channels)

    def extra_repr(self) -> str:
        rows, columns = self.kernel_size
        size = rows if rows == columns else (rows, columns)
        return f"{self.mask_type!r}, {self.in_channels}, {self.out_channels}, kernel_size={size}"


class ConvStep:
    """A causal convolution that computes front after front and remembers what it has been given.

    For image channel c it computes the features of that channel only; those of earlier channels of the
    same pixels must have been given before. It works on a copy of the weights, takes part in no gradient
    and ends with the sampling call that it was made for.

    Arguments:
        wave: the fronts.
        weight: `[out, in, rows, columns]`, without what is always masked.
        bias: `[out]`.
        window: how far it looks up, left, and right in the rows above; None: it sees the pixel itself only.
        image_channels: the number of image channels that the features are shared among.
    """

    def __init__(
        self,
        wave: Wavefront,
        weight: Tensor,
        bias: Tensor,
        window: tuple[int, int, int] | None,
        image_channels: int = 1,
    ):
        outputs, inputs = (
            channel_groups(features, image_channels).bincount().tolist() for features in weight.shape[:2]
        )
        weight = weight.detach().permute(3, 2, 1, 0).flatten(0, 2)  # (column, row, input), output: as in Past.window
        self.past = None
        if window is not None:
            self.past = Past(wave, inputs, *window)
            weight = weight[: self.past.reach]
        self.weight = [part.contiguous() for part in weight.split(outputs, 1)]
        self.bias = bias.detach().split(outputs)
        if self.past is None:  # nothing but the pixel itself, up to the channel in question
            self.weight = [part[: sum(inputs[: c + 1])] for c, part in enumerate(self.weight)]
        self.now: list[Tensor] = []

    def put(self, front: Front, x: Tensor) -> None:
        """Gives the layer the features `[front.size, inputs of front.channel]`."""
        if self.past is None:
            self.now[front.channel :] = [x]
        else:
            self.past.put(front, x)

    def __call__(self, front: Front, x: Tensor | None = None, onto: Tensor | None = None) -> Tensor:
        """Computes `[front.size, outputs of front.channel]`.

        Arguments:
            front: the front.
            x: what `put` takes; None for a layer of type A, which gets it after it is drawn.
            onto: features to add the result to, in place.
        """
        if x is not None:
            self.put(front, x)
        if self.past is not None:
            seen = self.past.window(front)
        else:
            seen = self.now[0] if len(self.now) == 1 else torch.cat(self.now, 1)
        weight, bias = self.weight[front.channel], self.bias[front.channel]
        # Quicker than `torch.addmm(bias, seen, weight)`, which first copies the bias into every line.
        return (torch.mm(seen, weight) if onto is None else onto.addmm_(seen, weight)).add_(bias)


class ResidualBlock(nn.Module):
    """The residual block of PixelCNN: squeeze to half the features, look around, widen, add.

    Three convolutions of type B, each after a ReLU: 1x1 to half the features, 3x3, 1x1 back. The input
    is added to their output, so a block that has learned nothing yet passes its input on.

    Arguments:
        hidden: number of features, even.
        kernel_size: odd side of the middle kernel, in pixels.
        dropout: probability in [0, 1) that a squeezed feature is dropped in training.
        image_channels: 1 for grey images, 3 for colour.

    Shapes:
        input and output `[N, hidden, H, W]`.

    References:
        van den Oord et al. 2016, section 3.3, figure 5 (left).

    Example:
        >>> ResidualBlock(hidden=16)(torch.zeros(2, 16, 28, 28)).shape
        torch.Size([2, 16, 28, 28])
    """

    def __init__(self, hidden: int, kernel_size: int = 3, dropout: float = 0.0, image_channels: int = 1):
        super().__init__()
        half = hidden // 2
        self.squeeze = MaskedConv2d("B", hidden, half, 1, image_channels)
        self.look = MaskedConv2d("B", half, half, kernel_size, image_channels)
        self.widen = MaskedConv2d("B", half, hidden, 1, image_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        h = self.squeeze(F.relu(x))
        h = self.look(F.relu(h, inplace=True))  # in place: fresh memory costs more than the arithmetic
        h = self.widen(self.dropout(F.relu(h, inplace=True)))
        return x + h

    def stepper(self, wave: Wavefront) -> Callable[[Front, Tensor], Tensor]:
        """Gives `step(front, x)`, which is `forward` for one front; it adds to `x` in place."""
        squeeze, look, widen = (layer.stepper(wave) for layer in (self.squeeze, self.look, self.widen))

        def step(front: Front, x: Tensor) -> Tensor:
            h = squeeze(front, x.relu())
            h = look(front, h.relu_())
            return widen(front, h.relu_(), onto=x)

        return step


class DownShiftedConv2d(nn.Conv2d):
    """A convolution that sees its own row and rows above, on both sides.

    No weight is masked: the kernel has no rows below, and the padding moves it up. Given an image that was
    shifted down by one row (`shift_down`), it sees only rows above, all columns alike. With stride 2 each
    output stands for a square of 2x2 inputs and sees up to the upper row of it.

    Arguments:
        in_channels: number of input features.
        out_channels: number of output features.
        kernel_size: (rows, columns): its own row and the rows - 1 above it; an odd number of columns.
        stride: 1, or 2 to halve height and width (rounded up).
        bias: whether each output feature gets a constant of its own.

    Shapes:
        input `[N, in_channels, H, W]`, output `[N, out_channels, H, W]`, with stride 2
        `[N, out_channels, (H + 1) // 2, (W + 1) // 2]`.

    References:
        van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", 2016, section 2.2
        (the vertical stack), and Salimans et al. 2017, section 2.3, which gives it its name.

    Example:
        >>> layer = DownShiftedConv2d(1, 8, (2, 3))
        >>> layer(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 8, 28, 28])
        >>> DownShiftedConv2d(1, 8, (2, 3), stride=2)(torch.zeros(2, 1, 7, 7)).shape
        torch.Size([2, 8, 4, 4])
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], stride: int = 1, bias: bool = True
    ):
        rows, columns = kernel_size
        if rows < 1 or columns < 1 or columns % 2 == 0:
            raise ValueError(f"kernel_size is {kernel_size}: give (rows, columns), columns odd.")
        super().__init__(in_channels, out_channels, kernel_size, _stride(stride), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.kernel_size
        return super().forward(F.pad(x, (columns // 2, columns // 2, rows - 1, 0)))

    def stepper(self) -> Callable[[Tensor], Tensor | None]:
        """Gives `step(row)`, which is `forward` for one row after the other, `[N, features, 1, W]`.

        With stride 2 every second row, beginning with the second, gives None: the output has no row there.
        """
        rows, columns = self.kernel_size
        seen: list[Tensor] = []
        given = itertools.count()

        def step(row: Tensor) -> Tensor | None:
            row = F.pad(row, (columns // 2, columns // 2))
            seen[:] = [*(seen or [torch.zeros_like(row)] * (rows - 1)), row][-rows:]
            if next(given) % self.stride[0]:
                return None
            return super(DownShiftedConv2d, self).forward(torch.cat(seen, 2))

        return step


class DownRightShiftedConv2d(nn.Conv2d):
    """A convolution that sees its own row and rows above, its own column and columns to the left.

    No weight is masked: the padding moves the kernel up and left. Given an image that was shifted to the
    right by one column (`shift_right`), it sees strictly earlier pixels only. With stride 2 each output
    stands for a square of 2x2 inputs and sees up to the upper left one of it.

    Arguments:
        in_channels: number of input features.
        out_channels: number of output features.
        kernel_size: (rows, columns): its own row and column, and those above and to the left of it.
        stride: 1, or 2 to halve height and width (rounded up).

    Shapes:
        as for `DownShiftedConv2d`.

    References:
        Salimans et al. 2017, section 2.3.

    Example:
        >>> layer = DownRightShiftedConv2d(1, 8, (2, 2))
        >>> layer(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 8, 28, 28])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], stride: int = 1):
        if min(kernel_size) < 1:
            raise ValueError(f"kernel_size is {kernel_size}: give (rows, columns), at least (1, 1).")
        super().__init__(in_channels, out_channels, kernel_size, _stride(stride))

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.kernel_size
        return super().forward(F.pad(x, (columns - 1, 0, rows - 1, 0)))

    def stepper(self, wave: Wavefront) -> ConvStep:
        """Gives `step(front, x)`, which is `forward` for one front of pixels at a time.

        With stride 2, `put` every pixel and ask only where the output has one.
        """
        rows, columns = self.kernel_size
        return ConvStep(wave, self.weight, self.bias, (rows - 1, columns - 1, 0))


def _stride(stride: int) -> int:
    if stride not in (1, 2):
        raise ValueError(f"stride is {stride}: give 1, or 2 to halve height and width.")
    return stride


class DownShiftedConvTranspose2d(nn.ConvTranspose2d):
    """Doubles height and width; each output sees what a down-shifted convolution of stride 2 may tell it.

    The transposed convolution of a kernel of 2x3: an input of row i acts on the rows 2i and 2i + 1.

    Arguments:
        in_channels: number of input features.
        out_channels: number of output features.

    Shapes:
        input `[N, in_channels, h, w]`; `shape`, (2h or 2h - 1, 2w or 2w - 1): what the strided one was
        given; output `[N, out_channels, *shape]`.

    References:
        Salimans et al. 2017, section 2.4.

    Example:
        >>> DownShiftedConvTranspose2d(8, 8)(torch.zeros(2, 8, 4, 4), (7, 8)).shape
        torch.Size([2, 8, 7, 8])
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, (2, 3), stride=2, padding=(0, 1), output_padding=(0, 1))

    def forward(self, x: Tensor, shape: tuple[int, int]) -> Tensor:
        return super().forward(x)[:, :, : shape[0], : shape[1]]


class DownRightShiftedConvTranspose2d(nn.ConvTranspose2d):
    """Doubles height and width; each output sees what a down-right-shifted convolution of stride 2 may tell it.

    The transposed convolution of a kernel of 2x2: an input acts on the square of 2x2 outputs that it stands for.

    Arguments:
        in_channels: number of input features.
        out_channels: number of output features.

    Shapes:
        as for `DownShiftedConvTranspose2d`.

    References:
        Salimans et al. 2017, section 2.4.

    Example:
        >>> DownRightShiftedConvTranspose2d(8, 8)(torch.zeros(2, 8, 4, 4), (7, 8)).shape
        torch.Size([2, 8, 7, 8])
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, (2, 2), stride=2)

    def forward(self, x: Tensor, shape: tuple[int, int]) -> Tensor:
        return super().forward(x)[:, :, : shape[0], : shape[1]]


def shift_down(x: Tensor) -> Tensor:
    """Moves an image down by one row; the first row becomes zero and the last one falls off.

    Arguments:
        x: `[N, features, H, W]`.

    Example:
        >>> shift_down(torch.tensor([[[[1, 2], [3, 4]]]]))
        tensor([[[[0, 0],
                  [1, 2]]]])
    """
    return F.pad(x, (0, 0, 1, -1))


def shift_right(x: Tensor) -> Tensor:
    """Moves an image to the right by one column; the first column becomes zero and the last one falls off.

    Arguments:
        x: `[N, features, H, W]`.

    Example:
        >>> shift_right(torch.tensor([[[[1, 2], [3, 4]]]]))
        tensor([[[[0, 1],
                  [0, 3]]]])
    """
    return F.pad(x, (1, -1))


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
        van den Oord et al. 2016, section 3.4 (the mask); Salimans et al. 2017, section 2.3 (the shifts).

    Example:
        >>> pair = ShiftedPair("A", 1, 8, 7)
        >>> pair.above.weight[0, 0].numel() + pair.beside.weight[0, 0].numel()
        24
    """

    def __init__(self, mask_type: str, in_channels: int, out_channels: int, kernel_size: int):
        if mask_type not in ("A", "B"):
            raise ValueError(f"mask_type is {mask_type!r}: give 'A' (first layer) or 'B' (later layers).")
        reach = kernel_size // 2
        if kernel_size % 2 == 0 or kernel_size < (3 if mask_type == "A" else 1):
            raise ValueError(f"kernel_size is {kernel_size}: give an odd number, for type A at least 3.")
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
    if rows != columns or layer.image_channels != 1:
        raise ValueError(
            f"the layer has a kernel of {rows}x{columns} and {layer.image_channels} image channels: "
            "only square kernels of one channel are sums of two shifts."
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
    if not isinstance(layer, SHIFTED):
        raise TypeError(f"layer is a {type(layer).__name__}: give a shifted convolution.")
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


SHIFTED = (
    DownShiftedConv2d,
    DownRightShiftedConv2d,
    DownShiftedConvTranspose2d,
    DownRightShiftedConvTranspose2d,
)


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


def gate(x: Tensor, image_channels: int = 1) -> Tensor:
    """Multiplies one half of the features, through tanh, with the other half, through a sigmoid.

    Arguments:
        x: `[N, 2 * features, H, W]`; each image channel's group holds the one half, then the other.
        image_channels: the number of these groups, which must be equally large.

    Returns:
        `[N, features, H, W]`.

    References:
        van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", 2016, equation 2.

    Example:
        >>> gate(torch.tensor([100.0, 2.0, 0.0, 100.0]).view(1, 4, 1, 1)).flatten()
        tensor([0.5000, 0.9640])
    """
    halves = x.chunk(2 * image_channels, 1)  # not one view with five axes: its gradient loses the memory layout
    gated = [value.tanh() * strength.sigmoid() for value, strength in zip(halves[::2], halves[1::2], strict=True)]
    return gated[0] if image_channels == 1 else torch.cat(gated, 1)


class GatedSteps(NamedTuple):
    """The two ways of a gated block's step, for one sampling call."""

    row: Callable[[Tensor], Tensor]  # the vertical stack: from and to `[N, hidden, 1, W]`, a row at a time
    step: Callable[[Front, Tensor], Tensor]  # the horizontal stack, a front of one pixel at a time


class GatedBlock(nn.Module):
    """One layer of both stacks of Gated PixelCNN.

    The vertical stack looks at all columns of its own row of `v` and of rows above, the horizontal one at
    its own row of `h` up to the pixel itself. A 1x1 convolution links them: the vertical features, before
    their gate, are added to the horizontal ones, before theirs. When `v` saw only rows above (the image
    was shifted down once), the two together see all earlier pixels of a window, without a hole.

    Arguments:
        hidden: number of features, a multiple of `image_channels`.
        kernel_size: odd side of the kernel, in pixels.
        classes: number of classes to condition on, or None.
        dropout: probability in [0, 1) that a horizontal feature is dropped in training.
        image_channels: 1 for grey images, 3 for colour.

    Shapes:
        `v`, `h` and both outputs `[N, hidden, H, W]`; `label` `[N]`.

    References:
        van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", 2016, figure 2,
        equations 2 and 4.

    Example:
        >>> block = GatedBlock(hidden=16)
        >>> v, h = block(torch.zeros(2, 16, 28, 28), torch.zeros(2, 16, 28, 28))
        >>> h.shape
        torch.Size([2, 16, 28, 28])
    """

    def __init__(
        self,
        hidden: int,
        kernel_size: int = 3,
        classes: int | None = None,
        dropout: float = 0.0,
        image_channels: int = 1,
    ):
        super().__init__()
        self.image_channels = image_channels
        self.down = DownShiftedConv2d(hidden, 2 * hidden, (kernel_size // 2 + 1, kernel_size))
        self.across = MaskedConv2d("B", hidden, 2 * hidden, (1, kernel_size), image_channels)
        self.link = nn.Conv2d(2 * hidden, 2 * hidden, 1)  # needs no mask: all of v is earlier
        self.class_bias = None if classes is None else nn.Embedding(classes, 4 * hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = MaskedConv2d("B", hidden, hidden, 1, image_channels)

    def forward(self, v: Tensor, h: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        v, link = self._look_up(v, label)
        h = h + self.out(self.dropout(gate(self.across(h) + link, self.image_channels)))
        return v, h

    def _look_up(self, v: Tensor, label: Tensor | None, down: Callable | None = None) -> tuple[Tensor, Tensor]:
        """The vertical stack, and what it tells the horizontal one."""
        v = (down or self.down)(v)
        link = self.link(v)
        if label is not None:
            to_v, to_h = self.class_bias(label).to(v.dtype)[:, :, None, None].chunk(2, 1)
            v, link = v + to_v, link + to_h
        return gate(v), link

    def stepper(self, wave: Wavefront, label: Tensor | None = None) -> GatedSteps:
        """Gives the block's other way to run: `row` once per row, then `step` for each of its pixels.

        Arguments:
            wave: the fronts, of one pixel each.
            label: classes `[N]`, for a block with classes.
        """
        across, out, down = self.across.stepper(wave), self.out.stepper(wave), self.down.stepper()
        group = 2 * self.out.out_channels // self.image_channels
        links: list[Tensor] = []  # of the row, a tensor [channel, column, image, feature]

        def row(v: Tensor) -> Tensor:
            v, link = self._look_up(v, label, down)
            links[:] = [link[:, :, 0].unflatten(1, (self.image_channels, group)).permute(1, 3, 0, 2).contiguous()]
            return v

        def step(front: Front, h: Tensor) -> Tensor:
            x = across(front, h, onto=links[0][front.channel, wave.column(front)])
            value, strength = x.chunk(2, 1)
            return out(front, value.tanh_() * strength.sigmoid_(), onto=h)

        return GatedSteps(row, step)


def concat_elu(x: Tensor) -> Tensor:
    """Applies the ELU to features and to their negatives: twice as many features, and no dead ones.

    Arguments:
        x: `[N, features, ...]`.

    Returns:
        `[N, 2 * features, ...]`.

    References:
        the code of Salimans et al. 2017; Shang et al., "Understanding and
        Improving Convolutional Neural Networks via Concatenated Rectified Linear Units", 2016.

    Example:
        >>> concat_elu(torch.tensor([[2.0, -2.0]]))
        tensor([[ 2.0000, -0.8647, -0.8647,  2.0000]])
    """
    return F.elu(torch.cat((x, -x), 1), inplace=True)


class GatedResidual(nn.Module):
    """The gated residual block of PixelCNN++, around shifted convolutions of one kind.

    Arguments:
        conv: makes a convolution from the numbers of its input and output features.
        hidden: number of features.
        links: how many other inputs there are; each enters through a 1x1 convolution.
        classes: number of classes to condition on, or None.
        dropout: probability in [0, 1) that a feature between the convolutions is dropped in training.

    Shapes:
        input, other inputs and output `[N, hidden, H, W]`; `label` `[N]`.

    References:
        Salimans et al. 2017, sections 2.3-2.5 and figure 2.

    Example:
        >>> block = GatedResidual(lambda *features: DownRightShiftedConv2d(*features, (2, 2)), hidden=16)
        >>> block(torch.zeros(2, 16, 28, 28)).shape
        torch.Size([2, 16, 28, 28])
    """

    def __init__(
        self,
        conv: Callable[[int, int], nn.Module],
        hidden: int,
        links: int = 0,
        classes: int | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.look = conv(2 * hidden, hidden)
        self.links = nn.ModuleList(nn.Conv2d(2 * hidden, hidden, 1, bias=False) for _ in range(links))
        self.dropout = nn.Dropout(dropout)
        self.gates = conv(2 * hidden, 2 * hidden)
        self.class_bias = None if classes is None else nn.Embedding(classes, 2 * hidden)
        with torch.no_grad():  # at first a block passes on little but its input
            self.gates.weight.mul_(0.1)

    def forward(self, x: Tensor, *others: Tensor, label: Tensor | None = None) -> Tensor:
        h = self.look(concat_elu(x))
        for link, other in zip(self.links, others, strict=True):
            h = h + link(concat_elu(other))
        return self._gated(x, self.gates(self.dropout(concat_elu(h))), self._bias(label))

    def _bias(self, label: Tensor | None) -> Tensor | None:
        return None if label is None else self.class_bias(label)

    def _gated(self, x: Tensor, h: Tensor, bias: Tensor | None) -> Tensor:
        if bias is not None:
            h = h + bias.to(h.dtype).view(*bias.shape, *[1] * (h.dim() - 2))
        value, strength = h.chunk(2, 1)
        return x + value * strength.sigmoid()

    def row_stepper(self, label: Tensor | None) -> Callable[..., Tensor]:
        """Gives `row(x, *others)`: `forward` for one row after the other, `[N, hidden, 1, W]`."""
        look, gates, bias = self.look.stepper(), self.gates.stepper(), self._bias(label)

        def row(x: Tensor, *others: Tensor) -> Tensor:
            h = look(concat_elu(x))
            for link, other in zip(self.links, others, strict=True):
                h = h + link(concat_elu(other))
            return self._gated(x, gates(concat_elu(h)), bias)

        return row

    def stepper(self, wave: Wavefront, label: Tensor | None) -> Callable[..., Tensor]:
        """Gives `step(front, x, linked, *others)` for one pixel, `[N, hidden]`.

        What the first link gives must have been computed, and comes as `linked`, None for a block without.
        """
        look, gates, bias = self.look.stepper(wave), self.gates.stepper(wave), self._bias(label)
        links = [link.weight.detach()[:, :, 0, 0].T.contiguous() for link in self.links[1:]]

        def step(front: Front, x: Tensor, linked: Tensor | None = None, *others: Tensor) -> Tensor:
            h = look(front, concat_elu(x), onto=linked)
            for link, other in zip(links, others, strict=True):
                h = h.addmm_(concat_elu(other), link)
            return self._gated(x, gates(front, concat_elu(h)), bias)

        return step
