"""Causal building blocks: convolutions that see only what is already there.

Images are read in raster order: row by row from the top, each row from left to right, and inside a
pixel channel by channel. A layer is causal when its output at a value depends on earlier values
only (type A), or on earlier values and the value itself (type B).

References:
    van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel Recurrent Neural Networks", 2016, sections 3.3-3.4,
    https://arxiv.org/abs/1601.06759
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


def raster_mask(
    mask_type: str, in_channels: int, out_channels: int, kernel_size: int, image_channels: int = 1
) -> Tensor:
    """Makes the mask of a raster-order convolution.

    Everything above the centre row is open, everything to the left of the centre is open, everything
    to the right and below is shut. The centre connects an input to the outputs of later image channels,
    and in type B also to those of the same channel.

    Arguments:
        mask_type: "A" (strictly earlier values) or "B" (the value itself too).
        in_channels: number of input features.
        out_channels: number of output features.
        kernel_size: odd side k of the kernel, in pixels.
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
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size is {kernel_size}: give an odd number, so that there is a centre.")
    centre = kernel_size // 2
    of_input = channel_groups(in_channels, image_channels)
    of_output = channel_groups(out_channels, image_channels)
    if image_channels == 1:
        of_input, of_output = of_input[:1], of_output[:1]
    open_at_centre = of_input < of_output[:, None] if mask_type == "A" else of_input <= of_output[:, None]
    mask = torch.zeros(len(of_output), len(of_input), kernel_size, kernel_size, dtype=torch.bool)
    mask[:, :, :centre] = True
    mask[:, :, centre, :centre] = True
    mask[:, :, centre, centre] = open_at_centre
    return mask


class MaskedConv2d(nn.Conv2d):
    """A convolution of stride 1 that keeps the image size and sees only earlier values.

    The weights are masked, not the image: each call multiplies them with the mask, so a masked weight
    never acts and its gradient is exactly 0. Kernel rows below the centre are always masked and are
    never computed. The initial weights are scaled to the number of live taps.

    Arguments:
        mask_type: "A" for the first layer (a value must not see itself), "B" for all later ones.
        in_channels: number of input features.
        out_channels: number of output features.
        kernel_size: odd side k of the kernel, in pixels.
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

    def __init__(self, mask_type: str, in_channels: int, out_channels: int, kernel_size: int, image_channels: int = 1):
        mask = raster_mask(mask_type, in_channels, out_channels, kernel_size, image_channels)
        self.mask_type, self.image_channels = mask_type, image_channels
        self._live_taps = mask.expand(out_channels, in_channels, -1, -1).sum((1, 2, 3))
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.register_buffer("mask", mask, persistent=False)
        centre = kernel_size // 2
        self._has_shut_centre = not bool(mask[:, :, centre, centre].all())

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
        rows = self.kernel_size[0] // 2 + 1  # the rows below are masked
        weight = self.weight[:, :, :rows] * self.mask[:, :, :rows]
        above, beside = self.padding
        return F.conv2d(F.pad(x, (beside, beside, above, 0)), weight, self.bias)

    @property
    def lag(self) -> int:
        """By how many columns a row must be ahead, for the row below to have all it looks at."""
        return self.kernel_size[0] // 2 + 1

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
        return ConvStep(self, wave)

    def extra_repr(self) -> str:
        return f"{self.mask_type!r}, {self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size[0]}"


class ConvStep:
    """A masked convolution that computes front after front and remembers what it has been given.

    For image channel c it computes the features of that channel only; those of earlier channels of the
    same pixels must have been given before. It works on a copy of the weights, takes part in no gradient
    and ends with the sampling call that it was made for.

    Arguments:
        layer: the layer.
        wave: the fronts.
    """

    def __init__(self, layer: MaskedConv2d, wave: Wavefront):
        outputs, inputs = (
            channel_groups(features, layer.image_channels).bincount().tolist()
            for features in (layer.out_channels, layer.in_channels)
        )
        rows = layer.kernel_size[0] // 2 + 1
        weight = (layer.weight * layer.mask)[:, :, :rows].detach()
        weight = weight.permute(3, 2, 1, 0).flatten(0, 2)  # (column, row, input), output: as in Past.window
        self.past = None
        if layer.kernel_size != (1, 1) or layer.mask_type == "A":
            self.past = Past(wave, inputs, layer.kernel_size[0])
            weight = weight[: self.past.reach]
        self.weight = [part.contiguous() for part in weight.split(outputs, 1)]
        self.bias = layer.bias.detach().split(outputs)
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
