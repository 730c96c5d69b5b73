"""PixelCNN++: `concat_elu`, `GatedResidual`, `TwoStreams`, `Hourglass` and `PixelCNNPlusPlus`.

Implemented: the PixelCNN++ of Salimans et al. 2017 for grey and colour images, with a class bias in every
gate. One stream of features sees the rows above, the other one also the pixels to the left; the channels of
a pixel depend on each other through the mixture alone, so one pass gives all three. As in the authors'
code, the image gets a channel of ones, by which the network can tell an edge from a value of zero.

Different from that code: the image is shifted before the first convolutions instead of their outputs after, so
the edge is zero for the pixels but not for the bias; weights are neither normalised nor initialised from data,
which the paper does not mention: that helped Adam, but Muon learns more without it (benchmarks/plusplus.py). Instead
the mixture's components begin side by side. Drawn values are levels, there they stay real numbers. The paper
has 192 features and finds 5 components enough, the code 160 and 10; both have 5 blocks at each size and drop
half of the features, the default here is 48, 10, 1 and none. Not implemented: the variants of their ablation.

References:
    Salimans, Karpathy, Chen, Kingma, "PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture
    Likelihood and Other Modifications", 2017, https://arxiv.org/abs/1701.05517; its code is
    https://github.com/openai/pixel-cnn
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import (
    DownRightShiftedConv2d,
    DownRightShiftedConvTranspose2d,
    DownShiftedConv2d,
    DownShiftedConvTranspose2d,
    RowStep,
    SquareStep,
    shift_down,
    shift_right,
)
from ..stepping import WHOLE_ROW, DrawnRows, Front, PixelStep, Wavefront, by_column
from .base import AutoregressiveModel, Recipe, Stepper, at_least
from .heads import Conditionals, MixtureHead

SIZES = 3  # the image's, half and a quarter of it


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
    return F.elu_(torch.cat((x, -x), 1))


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
        Salimans et al. 2017, section 2.5 (where dropout stands), and `gated_resnet` of their code.

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
        return self.gated(x, self.gates(self.dropout(concat_elu(h))), self.bias(label))

    def bias(self, label: Tensor | None) -> Tensor | None:
        """What the class adds to the gates, `[N, 2 * hidden]`."""
        return None if label is None else self.class_bias(label)

    def gated(self, x: Tensor, h: Tensor, bias: Tensor | None) -> Tensor:
        """Adds one half of `h` to `x`, as far as the other half lets it."""
        if bias is not None:
            h = h + bias.to(h.dtype).view(*bias.shape, *[1] * (h.dim() - 2))
        value, strength = h.chunk(2, 1)
        return x + value * strength.sigmoid()


class ResidualRowStep:
    """`GatedResidual.forward` for one row after the other, `[N, hidden, 1, W]`."""

    def __init__(self, block: GatedResidual, label: Tensor | None):
        self.block, self.bias = block, block.bias(label)
        self.look, self.gates = RowStep(block.look), RowStep(block.gates)

    def __call__(self, x: Tensor, *others: Tensor) -> Tensor:
        h = self.look(concat_elu(x))
        for link, other in zip(self.block.links, others, strict=True):
            h = h + link(concat_elu(other))
        return self.block.gated(x, self.gates(concat_elu(h)), self.bias)


class ResidualPixelStep:
    """`GatedResidual.forward` for one pixel, `[N, hidden]`.

    What the first link gives, and the bias of the first convolution, must have been computed and come as `linked`; a
    block without links gets none. Of all features that it reads, `concat_elu` comes along: others read them, too.
    """

    def __init__(self, block: GatedResidual, wave: Wavefront, label: Tensor | None):
        bias = block.bias(label)
        self.look = block.look.stepper(wave, bias=not block.links)
        self.gates = block.gates.stepper(wave, True if bias is None else block.gates.bias + bias)
        self.links = [PixelStep(link) for link in block.links[1:]]

    def __call__(self, front: Front, x: Tensor, read: Tensor, linked: Tensor | None = None, *others: Tensor) -> Tensor:
        h = self.look(front, read, onto=linked)
        for link, other in zip(self.links, others, strict=True):
            h = link.onto(h, other)
        return self.gated(front, x, h)

    def gated(self, front: Front, x: Tensor, h: Tensor) -> Tensor:
        """The second half: from what was seen and linked to the block's features."""
        value, strength = self.gates(front, concat_elu(h)).chunk(2, 1)
        return torch.addcmul(x, value, strength.sigmoid_())


class TwoStreams(nn.Module):
    """One gated residual block of each stream; the one beside is also told what the one above found.

    Arguments:
        hidden: number of features of each stream.
        short_cut: whether it also takes both streams of an earlier block.
        classes, dropout: as for `GatedResidual`.

    Shapes:
        `above`, `beside` and both outputs `[N, hidden, H, W]`; `short_cut` a pair of such; `label` `[N]`.

    References:
        Salimans et al. 2017, sections 2.3 and 2.4, figure 2.
    """

    def __init__(self, hidden: int, short_cut: bool, classes: int | None, dropout: float):
        super().__init__()
        down, down_right = (
            partial(DownShiftedConv2d, kernel_size=(2, 3)),
            partial(DownRightShiftedConv2d, kernel_size=(2, 2)),
        )
        self.above = GatedResidual(down, hidden, int(short_cut), classes, dropout)
        self.beside = GatedResidual(down_right, hidden, 1 + int(short_cut), classes, dropout)

    def forward(
        self, above: Tensor, beside: Tensor, label: Tensor | None, short_cut: tuple[Tensor, ...] = ()
    ) -> tuple[Tensor, Tensor]:
        above = self.above(above, *short_cut[:1], label=label)
        return above, self.beside(beside, above, *short_cut[1:], label=label)


class TwoStreamsStep:
    """`TwoStreams.forward` in two parts: `row` once per row for the stream above, then `pixel` for the one beside."""

    def __init__(self, block: TwoStreams, wave: Wavefront, label: Tensor | None):
        self.wave, self.link, self.bias = wave, block.beside.links[0], block.beside.look.bias
        self.above, self.beside = ResidualRowStep(block.above, label), ResidualPixelStep(block.beside, wave, label)
        self.linked: tuple[Tensor, ...] = ()  # what the row above tells each of its pixels, by column [N, hidden]

    def row(self, above: Tensor, *short_cut: Tensor) -> Tensor:
        """From and to `[N, hidden, 1, W]`."""
        above = self.above(above, *short_cut)
        self.linked = by_column(F.conv2d(concat_elu(above), self.link.weight, self.bias)).unbind(0)
        return above

    def pixel(self, front: Front, beside: Tensor, *read: Tensor) -> Tensor:
        """From and to `[N, hidden]`; for a band `[front.columns * N, hidden]`.

        Arguments:
            front: the pixel, or a band of pixels.
            beside: their features.
            read: `concat_elu` of these, then of the short-cut, if the block has one.
        """
        column = self.wave.column(front)
        linked = self.linked[column] if front.columns == 1 else torch.cat(self.linked)
        return self.beside(front, beside, read[0], linked, *read[1:])


class Hourglass(nn.Module):
    """Blocks on the way down, the same at half the size, and blocks on the way up with short-cuts.

    Arguments:
        hidden: number of features of each stream.
        blocks: number of blocks on the way down, and of those on the way up that pair with them.
        sizes: how many sizes there are, this one included.
        classes, dropout: as for `GatedResidual`.

    Shapes:
        `above`, `beside` and both outputs `[N, hidden, H, W]`; `label` `[N]`.

    References:
        Salimans et al. 2017, section 2.4 and figure 2.
    """

    def __init__(self, hidden: int, blocks: int, sizes: int, classes: int | None, dropout: float):
        super().__init__()
        self.down = nn.ModuleList(TwoStreams(hidden, False, classes, dropout) for _ in range(blocks))
        self.inner = None
        if sizes > 1:
            self.shrink_above = DownShiftedConv2d(hidden, hidden, (2, 3), stride=2)
            self.shrink_beside = DownRightShiftedConv2d(hidden, hidden, (2, 2), stride=2)
            self.inner = Hourglass(hidden, blocks, sizes - 1, classes, dropout)
            self.grow_above = DownShiftedConvTranspose2d(hidden, hidden)
            self.grow_beside = DownRightShiftedConvTranspose2d(hidden, hidden)
            blocks += 1  # what this size was given is a short-cut, too
        self.up = nn.ModuleList(TwoStreams(hidden, True, classes, dropout) for _ in range(blocks))

    def forward(self, above: Tensor, beside: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        short_cuts = [(above, beside)]
        for block in self.down:
            short_cuts.append(block(*short_cuts[-1], label))
        if self.inner is None:
            above, beside = short_cuts.pop()
        else:
            shape = above.shape[-2:]
            above, beside = short_cuts[-1]
            above, beside = self.inner(self.shrink_above(above), self.shrink_beside(beside), label)
            above, beside = self.grow_above(above, shape), self.grow_beside(beside, shape)
        for block in self.up:
            above, beside = block(above, beside, label, short_cuts.pop())
        return above, beside


class HourglassStep:
    """`Hourglass.forward` in two parts: `row` once per row for the stream above, then `pixel` for the one beside.

    A front is a pixel, or a whole row where all of it is known. The sizes within take part in every second row and
    column; in between they are asked for what they had.
    """

    def __init__(self, glass: Hourglass, wave: Wavefront, label: Tensor | None):
        self.glass, self.wave = glass, wave
        self.down = [TwoStreamsStep(block, wave, label) for block in glass.down]
        self.up = [TwoStreamsStep(block, wave, label) for block in glass.up]
        self.inner = None
        if glass.inner is not None:
            half_shape = (1, (wave.height + 1) // 2, (wave.width + 1) // 2)
            self.half = Wavefront(wave.count, half_shape, WHOLE_ROW, wave.like)
            self.inner = HourglassStep(glass.inner, self.half, label)
            self.shrink_above, self.shrink_beside = RowStep(glass.shrink_above), glass.shrink_beside.stepper(wave)
            self.grow_beside = SquareStep(glass.grow_beside)
        self.rows: list[Tensor] = []  # of the stream above, still to be given out
        self.squares: dict[int, Tensor] = {}  # of the stream beside, by column of the half size: [2, 2, N, hidden]

    def row(self, above: Tensor) -> Tensor:
        """From and to `[N, hidden, 1, W]`."""
        short_cuts = [above]
        for block in self.down:
            short_cuts.append(block.row(short_cuts[-1]))
        above = short_cuts.pop() if self.inner is None else self._row_within(short_cuts[-1])
        for block in self.up:
            above = block.row(above, short_cuts.pop())
        return above

    def _row_within(self, above: Tensor) -> Tensor:
        smaller = self.shrink_above(above)
        if smaller is not None:
            grown = self.glass.grow_above(self.inner.row(smaller), (2, self.wave.width))
            self.rows = list(grown.split(1, 2))
        return self.rows.pop(0)

    def pixel(self, front: Front, beside: Tensor) -> Tensor:
        """From and to `[front.columns * N, hidden]`."""
        short_cuts = [concat_elu(beside)]
        for block in self.down:
            beside = block.pixel(front, beside, short_cuts[-1])
            short_cuts.append(concat_elu(beside))
        if self.inner is None:
            short_cuts.pop()
        else:
            beside = self._pixel_within(front, beside)
        for block in self.up:
            beside = block.pixel(front, beside, concat_elu(beside), short_cuts.pop())
        return beside

    def _pixel_within(self, front: Front, beside: Tensor) -> Tensor:
        if front.columns > 1:
            return self._row_of_pixels_within(front, beside)
        (row, below), (column, right) = divmod(front.first, 2), divmod(self.wave.column(front), 2)
        self.shrink_beside.put(front, beside)
        if below == right == 0:
            smaller = self.inner.pixel(self.half.at(row, column), self.shrink_beside(front))
            self.squares[column] = self.grow_beside(smaller)
        return self.squares[column][below, right]

    def _row_of_pixels_within(self, front: Front, beside: Tensor) -> Tensor:
        row, below = divmod(front.first, 2)
        self.shrink_beside.put(front, beside)
        if below == 0:
            left_ones = self.shrink_beside(front).unflatten(0, (front.columns, -1))[::2]
            (half,) = self.half.bands(row * self.half.width - 1, (row + 1) * self.half.width - 1)
            grown = self.grow_beside(self.inner.pixel(half, left_ones.flatten(0, 1)))
            self.squares = dict(enumerate(grown.unflatten(2, (half.columns, -1)).unbind(2)))
        pairs = [square[below] for square in self.squares.values()]  # of columns, left and right, [2, N, hidden]
        return torch.cat(pairs)[: front.columns].flatten(0, 1)


class PixelCNNPlusPlus(AutoregressiveModel):
    """PixelCNN++: two streams of gated residual blocks at three sizes, and a mixture of logistics per pixel.

    Arguments:
        levels: number of levels of a value, at least 2.
        image_channels: 1 for grey images, 3 for colour.
        image_size: side in pixels that `sample` draws when it is not told another; any size can be scored.
        classes: number of classes to condition on, or None.
        hidden: number of features of each stream (192 in the paper, 160 in its code; with 160 and 5 blocks, 54
            million parameters).
        blocks: number of blocks at each size on the way down (5 in the paper), at least 1.
        dropout: probability in [0, 1) that a feature is dropped in training (0.5 in the paper).
        components: number of logistics in the mixture (5 are enough, says the paper; 10 in its code), at least 1.

    Shapes:
        images `[N, C, H, W]`, integers in `[0, levels)`; parameters `[N, 3 * components, H, W]`, for colour
        `[N, 10 * components, H, W]`: logits, means, log-scales, coefficients.

    References:
        Salimans et al. 2017, section 2 and figure 2.

    Example:
        >>> import torch
        >>> model = PixelCNNPlusPlus(hidden=16, blocks=1, components=5)
        >>> x = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
        >>> model(x).shape
        torch.Size([4, 15, 28, 28])
        >>> model.log_prob(x).shape
        torch.Size([4])
    """

    recipes = (Recipe("muon", 8, 0.02), Recipe("adam", 8, 0.004))

    def __init__(
        self,
        *,
        levels: int = 256,
        image_channels: int = 1,
        image_size: int = 28,
        classes: int | None = None,
        hidden: int = 48,
        blocks: int = 1,
        dropout: float = 0.0,
        components: int = 10,
    ):
        super().__init__(
            levels=levels, image_channels=image_channels, image_size=image_size, classes=classes, dropout=dropout
        )
        at_least(1, hidden=hidden, blocks=blocks)
        channels = image_channels + 1  # and the ones
        self.above = DownShiftedConv2d(channels, hidden, (2, 3))
        self.beside_above = DownShiftedConv2d(channels, hidden, (1, 3))
        self.beside = DownRightShiftedConv2d(channels, hidden, (2, 1))
        self.hourglass = Hourglass(hidden, blocks, SIZES, classes, dropout)
        self.head = MixtureHead(hidden, components, levels, image_channels)

    def forward(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        x, label = self.scale(x), self.labels(label, len(x))
        x = F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0)
        up, left = shift_down(x), shift_right(x)
        above = self.above(up).contiguous(memory_format=torch.channels_last)
        beside = (self.beside_above(up) + self.beside(left)).contiguous(memory_format=torch.channels_last)
        _, beside = self.hourglass(above, beside, label)
        return self.head(beside)

    def pixel_layers(self) -> list[nn.Module]:
        return [self.above, self.beside_above, self.beside, self.head]

    def stepper(self, wave: Wavefront, label: Tensor | None = None) -> "PlusPlusStep":
        return PlusPlusStep(self, wave, label)


class PlusPlusStep(Stepper):
    """`PixelCNNPlusPlus.forward` for one pixel: the stream above when a row begins, then the one beside."""

    def __init__(self, model: PixelCNNPlusPlus, wave: Wavefront, label: Tensor | None):
        super().__init__(model, wave)
        self.pixels = Wavefront(wave.count, (1, wave.height, wave.width), WHOLE_ROW, wave.like)
        self.above, self.beside_above = RowStep(model.above), RowStep(model.beside_above)
        self.beside = model.beside.stepper(self.pixels)
        self.hourglass = HourglassStep(model.hourglass, self.pixels, label)
        self.head, self.rows = model.head.stepper(wave), DrawnRows(wave)
        self.from_above: tuple[Tensor, ...] = ()  # what the row above gives each pixel, by column [N, hidden]
        self.features: Tensor | None = None  # of the pixel, [N, hidden]

    def predict(self, front: Front) -> Conditionals:
        self._enter(front)
        if front.channel == 0:
            column = self.wave.column(front)
            pixel = self.pixels.at(front.first, column)
            beside = self.beside(pixel, self.rows.left(front), onto=self.from_above[column])
            self.features = self.hourglass.pixel(pixel, beside)
        return self.head(front, self.features)

    def put(self, front: Front, levels: Tensor) -> None:
        self.rows.put(front, self.scaled.index_select(0, levels))
        self.head.put(front, levels)

    def read(self, row: Front, levels: Tensor) -> bool:
        self._enter(row)
        pixels = self.pixels.at(row.first, 0)._replace(columns=row.columns)
        left = self.rows.read(self.scaled[levels].squeeze(-1))
        self.hourglass.pixel(pixels, self.beside(pixels, left, onto=torch.cat(self.from_above)))
        return True

    def _enter(self, front: Front) -> None:
        """Does what the stream above does once a row, if the row begins here."""
        if self.rows.enter(front):
            self.hourglass.row(self.above(self.rows.above))
            self.from_above = by_column(self.beside_above(self.rows.above)).unbind(0)
