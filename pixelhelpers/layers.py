"""Masks and shifts: `MaskedConv2d`, the four shifted convolutions, `shift_down`, `shift_right`, and how masks are made.

Images are read in raster order: row by row from the top, each row from left to right, and inside a
pixel channel by channel. A layer is causal when its output at a value depends on earlier values
only (type A), or on earlier values and the value itself (type B).

References:
    van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel Recurrent Neural Networks", 2016, section 3.4,
    https://arxiv.org/abs/1601.06759
    van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", 2016, section 2.2,
    https://arxiv.org/abs/1606.05328
    Salimans, Karpathy, Chen, Kingma, "PixelCNN++", 2017, figure 2, https://arxiv.org/abs/1701.05517; shifted
    convolutions have their names from its code, `pixel_cnn_pp/nn.py` of https://github.com/openai/pixel-cnn
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import require
from .stepping import ConvStep, Front, Wavefront


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
    require(
        features >= image_channels,
        f"{features} features cannot be shared among {image_channels} image channels: give at least {image_channels}.",
    )
    return torch.arange(features) * image_channels // features


def group_sizes(features: int, image_channels: int) -> list[int]:
    """Says how many features belong to each image channel: the sizes of the groups of `channel_groups`.

    Example:
        >>> group_sizes(8, 3)
        [3, 3, 2]
    """
    return [features] if image_channels == 1 else channel_groups(features, image_channels).bincount().tolist()


def _sides(kernel_size: int | tuple[int, int]) -> tuple[int, int]:
    rows, columns = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    require(
        min(rows, columns) >= 1 and rows % 2 != 0 and columns % 2 != 0,
        f"kernel_size is {kernel_size}: give odd numbers, so that there is a centre.",
    )
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
    require(mask_type in ("A", "B"), f"mask_type is {mask_type!r}: give 'A' (first layer) or 'B' (later layers).")
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
        self._has_shut_centre = mask_type == "A" or image_channels > 1

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

    def stepper(self, wave: Wavefront, bias: Tensor | bool = True) -> ConvStep:
        """Gives the layer's other way to run: `step(front, x)`, one front of pixels at a time.

        Arguments:
            wave: the fronts, of a lag of at least the layer's.
            bias: whether to add the bias; or another one, `[out_channels]` or `[N, out_channels]`.

        Example:
            >>> layer, x = MaskedConv2d("B", 1, 8, 3), torch.randn(2, 1, 4, 6)
            >>> wave = Wavefront(2, (1, 4, 6), layer.lag, like=x)
            >>> step, values = layer.stepper(wave), wave.by_front(x)
            >>> y = [step(front, values[0, front.pixels].view(-1, 1)) for front in wave]
            >>> bool(torch.allclose(y[0], layer(x)[:, :, 0, 0], atol=1e-5))
            True
        """
        alone = self.kernel_size == (1, 1) and self.mask_type == "B"  # it looks at nothing but the pixel itself
        window = None if alone else (*self.padding, self.ahead, False)
        groups = (group_sizes(features, self.image_channels) for features in (self.in_channels, self.out_channels))
        if isinstance(bias, bool):
            bias = self.bias if bias else None
        return ConvStep(wave, self.live(self.weight) * self.live(self.mask), bias, window, *groups)

    def extra_repr(self) -> str:
        size = self.kernel_size[0] if len(set(self.kernel_size)) == 1 else self.kernel_size
        return f"{self.mask_type!r}, {self.in_channels}, {self.out_channels}, kernel_size={size}"


class ReluStep:
    """A ReLU and a 1x1 convolution of type B for one front, as few operations as can be.

    A bias before a ReLU need not be added: relu(x + b) = max(x, -b) + b, and the last b changes the convolution's
    own bias only. So a step takes features which lack a bias, and its result lacks one, too.

    Arguments:
        layer: the convolution.
        wave: the fronts.
        lacks: what the features lack, `[in_channels]`; None: nothing.
    """

    def __init__(self, layer: MaskedConv2d, wave: Wavefront, lacks: Tensor | None = None):
        weight = (layer.weight * layer.mask).detach()
        lacks = layer.bias.new_zeros(layer.in_channels) if lacks is None else lacks
        inputs, outputs = (group_sizes(features, wave.channels) for features in (layer.in_channels, layer.out_channels))
        self.lacks = layer.bias.detach() + weight[:, :, 0, 0] @ lacks  # what the result lacks
        self.floors = (-lacks).split(inputs)
        self.conv = ConvStep(wave, weight, None, None, inputs, outputs)

    def __call__(self, front: Front, x: Tensor) -> Tensor:
        """From features `[front.size, in]` to `[front.size, out]`, of the front's channel."""
        return self.conv(front, torch.maximum(x, self.floors[front.channel]))


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
        (the vertical stack), and the code of Salimans et al. 2017, which gives it its name.

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
        require(
            rows >= 1 and columns >= 1 and columns % 2 != 0,
            f"kernel_size is {kernel_size}: give (rows, columns), columns odd.",
        )
        require(stride in (1, 2), f"stride is {stride}: give 1, or 2 to halve height and width.")
        super().__init__(in_channels, out_channels, kernel_size, stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.kernel_size
        return super().forward(F.pad(x, (columns // 2, columns // 2, rows - 1, 0)))

    @property
    def ahead(self) -> int:
        """How many columns to the right the kernel looks, in all its rows."""
        return self.kernel_size[1] // 2

    def stepper(self, wave: Wavefront, bias: Tensor | None = None, image_channels: int | None = None) -> ConvStep:
        """Gives `step(front)`, which is `forward` for one front of pixels at a time, with stride 1.

        The front must have been `put`, and the `ahead` fronts after it, whose pixels lie to the right.

        Arguments:
            wave: the fronts.
            bias: what to add to the features in place of the layer's bias, `[out_channels]`, or `[N, out_channels]`.
            image_channels: of an image that is to be shifted down by one row, and is `put` channel by channel;
                None: nothing is shifted.
        """
        weight, bias, inputs = self.weight, self.bias if bias is None else bias, None
        if image_channels is not None:  # a kernel of one row more, which is shut, sees the same
            weight, inputs = F.pad(weight, (0, 0, 0, 1)), [1] * image_channels
        return ConvStep(
            wave, weight, bias, (weight.shape[2] - 1, self.ahead, self.ahead, image_channels is None), inputs
        )


class RowStep:
    """`DownShiftedConv2d.forward` for one row after the other, `[N, features, 1, W]`, for one sampling call.

    With stride 2 every second row, beginning with the second, gives None: the output has no row there.

    Arguments:
        layer: the convolution.
    """

    def __init__(self, layer: DownShiftedConv2d):
        self.layer = layer
        self.rows: list[Tensor] = []  # the newest ones, as many as the kernel has
        self.given = 0

    def __call__(self, row: Tensor) -> Tensor | None:
        rows, columns = self.layer.kernel_size
        row = F.pad(row, (columns // 2, columns // 2))
        self.rows = [*(self.rows or [torch.zeros_like(row)] * (rows - 1)), row][-rows:]
        self.given += 1
        if (self.given - 1) % self.layer.stride[0]:
            return None
        return nn.Conv2d.forward(self.layer, torch.cat(self.rows, 2))


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
        the code of Salimans et al. 2017 (`down_right_shifted_conv2d`).

    Example:
        >>> layer = DownRightShiftedConv2d(1, 8, (2, 2))
        >>> layer(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 8, 28, 28])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], stride: int = 1):
        require(min(kernel_size) >= 1, f"kernel_size is {kernel_size}: give (rows, columns), at least (1, 1).")
        require(stride in (1, 2), f"stride is {stride}: give 1, or 2 to halve height and width.")
        super().__init__(in_channels, out_channels, kernel_size, stride)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.kernel_size
        return super().forward(F.pad(x, (columns - 1, 0, rows - 1, 0)))

    def stepper(self, wave: Wavefront, bias: Tensor | bool = True) -> ConvStep:
        """Gives `step(front, x)`, which is `forward` for one front of pixels at a time.

        With stride 2, `put` every pixel and ask only where the output has one.

        Arguments:
            wave: the fronts.
            bias: whether to add the bias; or another one, `[out_channels]` or `[N, out_channels]`.
        """
        rows, columns = self.kernel_size
        window = None if rows == columns == 1 else (rows - 1, columns - 1, 0, False)
        if isinstance(bias, bool):
            bias = self.bias if bias else None
        return ConvStep(wave, self.weight, bias, window)


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
        Salimans et al. 2017, section 2.4 (transposed strided convolution); in their code `down_shifted_deconv2d`.

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
        Salimans et al. 2017, section 2.4; in their code `down_right_shifted_deconv2d`.

    Example:
        >>> DownRightShiftedConvTranspose2d(8, 8)(torch.zeros(2, 8, 4, 4), (7, 8)).shape
        torch.Size([2, 8, 7, 8])
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, (2, 2), stride=2)

    def forward(self, x: Tensor, shape: tuple[int, int]) -> Tensor:
        return super().forward(x)[:, :, : shape[0], : shape[1]]


class SquareStep:
    """`DownRightShiftedConvTranspose2d.forward` for one pixel, `[N, in]`, to its square, `[2, 2, N, out]`.

    Arguments:
        layer: the convolution.
    """

    def __init__(self, layer: DownRightShiftedConvTranspose2d):
        self.weight = layer.weight.detach().permute(2, 3, 0, 1).contiguous()
        self.bias = layer.bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        return (x @ self.weight).add_(self.bias)


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
