"""PixelCNN++: shifted convolutions, short-cuts through two coarser sizes, and a mixture of logistics.

Implemented: the PixelCNN++ of Salimans et al. 2017 for grey and colour images, with a class bias in every
gate. One stream of features sees the rows above, the other one also the pixels to the left; the channels of
a pixel depend on each other through the mixture alone, so one pass gives all three. As in the authors'
code, the image gets a channel of ones, by which the network can tell an edge from a value of zero.

Different from it: the image is shifted before the first convolutions instead of their outputs after, so the
edge is zero for the pixels but not for the bias; and weights are neither normalised nor initialised from
data: that helped for the first steps and no more (benchmarks/plusplus.py). Instead the mixture's components
begin side by side. Not implemented: the variants of their ablation.

References:
    Salimans, Karpathy, Chen, Kingma, "PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture
    Likelihood and Other Modifications", 2017, https://arxiv.org/abs/1701.05517
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..distributions import DiscretizedLogisticMixture
from ..layers import (
    DownRightShiftedConv2d,
    DownRightShiftedConvTranspose2d,
    DownShiftedConv2d,
    DownShiftedConvTranspose2d,
    GatedResidual,
    concat_elu,
    shift_down,
    shift_right,
)
from ..wavefront import DrawnRows, Front, Wavefront
from .base import MixtureModel, Stepper

SIZES = 3  # the image's, half and a quarter of it


class Steps(NamedTuple):
    """The two ways of a step, for one sampling call."""

    row: Callable[..., Tensor]  # the stream above: from and to `[N, hidden, 1, W]`, a row at a time
    pixel: Callable[..., Tensor]  # the stream beside: from and to `[N, hidden]`, at (row, column)


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
        self.above = GatedResidual(_down_shifted, hidden, int(short_cut), classes, dropout)
        self.beside = GatedResidual(_down_right_shifted, hidden, 1 + int(short_cut), classes, dropout)

    def forward(
        self, above: Tensor, beside: Tensor, label: Tensor | None, short_cut: tuple[Tensor, ...] = ()
    ) -> tuple[Tensor, Tensor]:
        above = self.above(above, *short_cut[:1], label=label)
        return above, self.beside(beside, above, *short_cut[1:], label=label)

    def stepper(self, wave: Wavefront, fronts: list[Front], label: Tensor | None) -> Steps:
        """Gives the block's steps: `row(x, *short_cut)` and `pixel(at, x, *short_cut)`."""
        row_of, step = self.above.row_stepper(label), self.beside.stepper(wave, label)
        linked: list[Tensor] = []  # what the row above tells each of its pixels, [column, image, feature]

        def row(x: Tensor, *short_cut: Tensor) -> Tensor:
            x = row_of(x, *short_cut)
            linked[:] = [self.beside.links[0](concat_elu(x))[:, :, 0].permute(2, 0, 1).contiguous()]
            return x

        def pixel(at: tuple[int, int], x: Tensor, *short_cut: Tensor) -> Tensor:
            return step(fronts[at[0] * wave.width + at[1]], x, linked[0][at[1]], *short_cut)

        return Steps(row, pixel)


def _down_shifted(inputs: int, outputs: int) -> DownShiftedConv2d:
    return DownShiftedConv2d(inputs, outputs, (2, 3))


def _down_right_shifted(inputs: int, outputs: int) -> DownRightShiftedConv2d:
    return DownRightShiftedConv2d(inputs, outputs, (2, 2))


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

    def stepper(self, wave: Wavefront, label: Tensor | None) -> Steps:
        """Gives the steps of both streams: `row(x)` once per row, then `pixel(at, x)` for each of its pixels.

        The sizes within take part in every second row and column; in between they are asked for what
        they had.
        """
        fronts = list(wave)
        down = [block.stepper(wave, fronts, label) for block in self.down]
        up = [block.stepper(wave, fronts, label) for block in self.up]
        if self.inner is not None:
            half = Wavefront(wave.count, (1, (wave.height + 1) // 2, (wave.width + 1) // 2), wave.width, wave.like)
            inner = self.inner.stepper(half, label)
            shrink_row, shrink = self.shrink_above.stepper(), self.shrink_beside.stepper(wave)
            grow = _grow(self.grow_beside)
        rows: list[Tensor] = []  # of the stream above, still to be given out
        grown: dict[int, Tensor] = {}  # of the stream beside, by column of the half size: [2, 2, N, hidden]

        def row(x: Tensor) -> Tensor:
            short_cuts = [x]
            for block in down:
                short_cuts.append(block.row(short_cuts[-1]))
            if self.inner is None:
                x = short_cuts.pop()
            else:
                smaller = shrink_row(short_cuts[-1])
                if smaller is not None:
                    rows[:] = self.grow_above(inner.row(smaller), (2, wave.width)).split(1, 2)
                x = rows.pop(0)
            for block in up:
                x = block.row(x, short_cuts.pop())
            return x

        def pixel(at: tuple[int, int], x: Tensor) -> Tensor:
            short_cuts = [x]
            for block in down:
                short_cuts.append(block.pixel(at, short_cuts[-1]))
            if self.inner is None:
                x = short_cuts.pop()
            else:
                (above, below), (left, right) = (divmod(place, 2) for place in at)
                front = fronts[at[0] * wave.width + at[1]]
                shrink.put(front, short_cuts[-1])
                if below == right == 0:
                    grown[left] = grow(inner.pixel((above, left), shrink(front)))
                x = grown[left][below, right]
            for block in up:
                x = block.pixel(at, x, short_cuts.pop())
            return x

        return Steps(row, pixel)


def _grow(layer: DownRightShiftedConvTranspose2d) -> Callable[[Tensor], Tensor]:
    """The layer's step: from a pixel `[N, features]` to the square of those it stands for, `[2, 2, N, features]`."""
    weight, bias = layer.weight.detach().permute(2, 3, 0, 1).contiguous(), layer.bias.detach()
    return lambda x: (x @ weight).add_(bias)


class PixelCNNPlusPlus(MixtureModel):
    """PixelCNN++: two streams of gated residual blocks at three sizes, and a mixture of logistics per pixel.

    Arguments:
        levels: number of levels of a value, at least 2.
        image_channels: 1 for grey images, 3 for colour.
        image_size: side in pixels that `sample` draws when it is not told another; any size can be scored.
        classes: number of classes to condition on, or None.
        hidden: number of features of each stream (the paper's 160; with its 5 blocks, 54 million parameters).
        blocks: number of blocks at each size on the way down (the paper's 5), at least 1.
        dropout: probability in [0, 1) that a feature is dropped in training (the paper's 0.5).
        components: number of logistics in the mixture (the paper's 5 to 10), at least 1.

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
            levels=levels,
            image_channels=image_channels,
            image_size=image_size,
            classes=classes,
            hidden=hidden,
            blocks=blocks,
            dropout=dropout,
            components=components,
        )
        for name, given in (("hidden", hidden), ("blocks", blocks)):
            if given < 1:
                raise ValueError(f"{name} is {given}: give at least 1.")
        channels = image_channels + 1  # and the ones
        self.above = DownShiftedConv2d(channels, hidden, (2, 3))
        self.beside_above = DownShiftedConv2d(channels, hidden, (1, 3))
        self.beside = DownRightShiftedConv2d(channels, hidden, (2, 1))
        self.hourglass = Hourglass(hidden, blocks, SIZES, classes, dropout)
        self.head = self.mixture_head(hidden, components)

    def forward(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        x, label = self.scale(x), self.labels(label, len(x))
        x = F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0)
        up, left = shift_down(x), shift_right(x)
        above = self.above(up).contiguous(memory_format=torch.channels_last)
        beside = (self.beside_above(up) + self.beside(left)).contiguous(memory_format=torch.channels_last)
        _, beside = self.hourglass(above, beside, label)
        return self.parameters_of(F.elu(beside))

    @property
    def lag(self) -> int:
        """By how many columns a row must be ahead of the row below it: by all of them, the stream above needs it."""
        return 1 << 30  # more than any width

    def stepper(self, wave: Wavefront, label: Tensor | None = None) -> Stepper:
        """Gives the model's other way to run: the stream above row by row, the one beside pixel by pixel.

        Arguments:
            wave: the fronts, of one pixel each.
            label: classes `[N]`, for a model with classes.
        """
        pixels = Wavefront(wave.count, (1, wave.height, wave.width), wave.width, wave.like)
        fronts = list(pixels)
        above, beside_above = self.above.stepper(), self.beside_above.stepper()
        beside = self.beside.stepper(pixels)
        hourglass = self.hourglass.stepper(pixels, label)
        head = self.head.weight.detach()[:, :, 0, 0].T.contiguous()
        scaled = self._scaled(torch.arange(self.levels, device=wave.like.device))  # of every level
        rows = DrawnRows(wave)
        stems: list[Tensor] = []  # what the row above gives each pixel, [column, image, feature]
        pixel: list[Tensor] = []  # the newest one's parameters, and the levels of its channels so far

        def predict(front: Front) -> DiscretizedLogisticMixture:
            column = wave.column(front)
            if front.channel == 0:
                if column == 0:
                    drawn = rows.begin(front.first)
                    hourglass.row(above(drawn))
                    stems[:] = [beside_above(drawn)[:, :, 0].permute(2, 0, 1).contiguous()]
                own = fronts[front.first * wave.width + column]
                h = hourglass.pixel((front.first, column), beside(own, rows.left(column), onto=stems[0][column]))
                pixel[:] = [torch.addmm(self.head.bias, F.elu(h), head)]
            return self.next_channel(*pixel)

        def put(front: Front, levels: Tensor) -> None:
            pixel.append(levels.to(pixel[0]))
            rows.put(front.channel, wave.column(front), scaled[levels])

        return Stepper(predict, put)
