"""Gated PixelCNN: `gate`, `GatedBlock` and `GatedPixelCNN`, two stacks which together see every earlier pixel around.

Implemented: the Gated PixelCNN of van den Oord et al. 2016 for grey and colour images (R before G before
B), with a class bias in every gate, and beyond the paper with dropout. Not implemented: conditioning on a
location in the image, PixelCNN auto-encoders.

Different from the paper: its vertical stack is drawn with masked kernels of n x n, and it says that smaller
ones and a shift do the same; here the image is shifted down once, and the kernels hold the rows above only.
In colour it splits the features of every layer among R, G and B; the vertical stack needs no such groups,
for all that it knows of lies above. Its network for ImageNet has 20 layers of 384 features and kernels of
5x5, the default here 5 layers of 64 and 3x3.

References:
    van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves, Kavukcuoglu, "Conditional Image Generation with
    PixelCNN Decoders", 2016, sections 2.1-2.3 and figure 2, https://arxiv.org/abs/1606.05328
"""

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import require
from ..layers import DownShiftedConv2d, MaskedConv2d, group_sizes, shift_down
from ..stepping import ConvStep, Front, Wavefront, beside_earlier
from .base import AutoregressiveModel, Recipe, Stepper
from .heads import Conditionals, SoftmaxHead

AT_ONCE = 5  # fronts that the vertical stack takes at a time: more make rows wait for longer


def gate(x: Tensor, image_channels: int = 1) -> Tensor:
    """Multiplies one half of the features, through tanh, with the other half, through a sigmoid.

    Arguments:
        x: `[N, 2 * features, H, W]`; each image channel's group holds the one half, then the other.
        image_channels: the number of these groups, which must be equally large.

    Returns:
        `[N, features, H, W]`.

    References:
        van den Oord et al. 2016, equation 2.

    Example:
        >>> gate(torch.tensor([100.0, 2.0, 0.0, 100.0]).view(1, 4, 1, 1)).flatten()
        tensor([0.5000, 0.9640])
    """
    halves = x.chunk(2 * image_channels, 1)  # not one view with five axes: its gradient loses the memory layout
    gated = [value.tanh() * strength.sigmoid() for value, strength in zip(halves[::2], halves[1::2], strict=True)]
    return gated[0] if image_channels == 1 else torch.cat(gated, 1)


def _gate(x: Tensor) -> Tensor:
    """`gate` of single pixels and one image channel, from `[N, 2 * features]`, in place."""
    value, strength = x.chunk(2, 1)
    return value.tanh_().mul_(strength.sigmoid_())


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
        van den Oord et al. 2016, figure 2, equations 2 and 4.

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
        v, link = self.told(self.down(v), label)
        h = h + self.out(self.dropout(gate(self.across(h) + link, self.image_channels)))
        return v, h

    def told(self, v: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        """From what the vertical stack saw to its gated features, and to what it tells the horizontal stack."""
        link = self.link(v)
        if label is not None:
            to_v, to_h = self.class_bias(label).to(v.dtype)[:, :, None, None].chunk(2, 1)
            v, link = v + to_v, link + to_h
        return gate(v), link


class VerticalStep:
    """The vertical half of `GatedBlock.forward`, for bands.

    Arguments:
        block: the block.
        wave: the fronts.
        label: classes `[N]`, for a block with classes.
        lacks: what the horizontal features lack when they come to the block, `[hidden]`: the link makes up for it.
    """

    def __init__(self, block: GatedBlock, wave: Wavefront, label: Tensor | None, lacks: Tensor):
        across = (block.across.weight * block.across.mask)[:, :, 0].sum(2)  # of a pixel and the one to its left
        to_v, to_h = block.down.bias, block.link.bias + block.across.bias + across @ lacks
        if label is not None:  # what a class adds goes into the biases; but the link is not told of what v gets
            of_v, of_h = block.class_bias(label).chunk(2, 1)
            to_v, to_h = to_v + of_v, to_h + of_h - of_v @ block.link.weight[:, :, 0, 0].T
        self.down, self.link = block.down.stepper(wave, to_v), ConvStep(wave, block.link.weight, to_h, None)
        self.links: deque[Tensor] = deque()  # of the fronts that are still to be drawn

    def __call__(self, band: Front) -> Tensor:
        v = self.down(band)
        self.links.extend(self.link(band, v).split(band.size))
        return _gate(v)


class HorizontalStep:
    """The horizontal half of `GatedBlock.forward`, of all blocks, for one front.

    Its layers look one pixel to the left. So of each row they need the two newest pixels: these stand side by
    side, and change places when the next one comes. The last bias of each block is not added, see `lacks`.

    Arguments:
        blocks: the blocks.
        wave: the fronts.
        lacks: what the features lack when they come to each block, and after the last one, `[blocks + 1, hidden]`.
    """

    def __init__(self, blocks: Sequence[GatedBlock], wave: Wavefront, lacks: Tensor):
        layer = blocks[0].across
        self.wave, self.inputs = wave, group_sizes(layer.in_channels, wave.channels)
        self.outputs = group_sizes(layer.out_channels, wave.channels)
        weights = (block.across.live(block.across.weight * block.across.mask).detach() for block in blocks)
        weights = [weight[:, :, 0].permute(2, 1, 0).flatten(0, 1) for weight in weights]  # (column, input), output
        self.across = [[part.contiguous() for part in weight.split(self.outputs, 1)] for weight in weights]
        self.out = [block.out.stepper(wave, bias=False).weight for block in blocks]
        # [before each block and after the last, row and image, older and newer, feature]; to the left of a row all
        # features are zero
        self.newest = (-lacks)[:, None, None].repeat(1, wave.height * wave.count, 2, 1)
        self.rows = (-1, -1)  # the first row of the front, and how many
        self.size = 0  # of the fronts that there is memory for

    def __call__(self, front: Front, h: Tensor, links: list[Tensor]) -> Tensor:
        """From and to the features `[front.size, of the front's channel]`."""
        channel = front.channel
        if channel == 0:
            self._move_on(front)
        h, h_and_link, value, strength = self.own[0][channel].copy_(h), self.h_and_link, *self.halves
        for window, across, link, gated, out, own in zip(
            self.windows, self.across, links, self.gated, self.out, self.own[1:], strict=True
        ):
            link = link if self.wave.channels == 1 else link.split(self.outputs, 1)[channel]
            torch.addmm(link, window, across[channel], out=h_and_link)
            gated, all_gated = gated[channel]
            torch.mul(value.tanh_(), strength.sigmoid_(), out=gated)
            h = torch.addmm(h, all_gated, out[channel], out=own[channel])
        return h

    def _move_on(self, front: Front) -> None:
        if front.size != self.size:
            self._make_room(front.size)
        if (front.first, front.rows) != self.rows:
            self.rows, begin = (front.first, front.rows), front.first * self.wave.count
            newest = self.newest[:, begin : begin + front.size]
            self.older, self.newer = newest.unbind(2)
            self.windows = newest[:-1].flatten(2).unbind(0)
            self.own = [own.split(self.inputs, 1) for own in self.newer.unbind(0)]
        self.older.copy_(self.newer)

    def _make_room(self, size: int) -> None:
        """Makes the memory for fronts of this size: fresh memory, and views of it, cost time in every turn."""
        self.size, like = size, self.wave.like
        self.h_and_link = like.new_empty(size, self.outputs[0])
        self.halves = self.h_and_link.chunk(2, 1)
        if self.wave.channels == 1:  # nothing is needed later
            self.gated = [beside_earlier(size, self.inputs, like)] * len(self.out)
        else:
            self.gated = [beside_earlier(size, self.inputs, like) for _ in self.out]


class GatedPixelCNN(AutoregressiveModel):
    """Gated PixelCNN: a 7x7 stem for each stack, gated blocks, a 1x1 head, a softmax per value.

    Arguments:
        levels: number of levels of a value, at least 2.
        image_channels: 1 for grey images, 3 for colour.
        image_size: side in pixels that `sample` draws when it is not told another; any size can be scored.
        classes: number of classes to condition on, or None.
        hidden: number of features of each stack, a multiple of `image_channels`.
        blocks: number of gated blocks, at least 1; each lets the model look one pixel further.
        dropout: probability in [0, 1) that a horizontal feature is dropped in training.

    Shapes:
        images `[N, C, H, W]`, integers in `[0, levels)`; logits `[N, levels, H, W]`, for colour
        `[N, levels, C, H, W]`.

    References:
        van den Oord et al. 2016 (PixelCNN Decoders), figure 2.

    Example:
        >>> import torch
        >>> model = GatedPixelCNN(hidden=16, blocks=2, classes=10)
        >>> x = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
        >>> model(x, label=torch.tensor([0, 1, 2, 3])).shape
        torch.Size([4, 256, 28, 28])
        >>> model.log_prob(x, label=7).shape
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
        hidden: int = 64,
        blocks: int = 5,
        dropout: float = 0.0,
    ):
        super().__init__(
            levels=levels, image_channels=image_channels, image_size=image_size, classes=classes, dropout=dropout
        )
        require(blocks >= 1, f"blocks is {blocks}: give at least 1, the horizontal stack looks up only there.")
        require(
            hidden >= image_channels and hidden % image_channels == 0,
            f"hidden is {hidden}: give a multiple of {image_channels}, the number of channels.",
        )
        self.above = DownShiftedConv2d(image_channels, hidden, (3, 7))
        self.beside = MaskedConv2d("A", image_channels, hidden, (1, 7), image_channels)
        self.blocks = nn.ModuleList(GatedBlock(hidden, 3, classes, dropout, image_channels) for _ in range(blocks))
        self.head = SoftmaxHead(hidden, levels, image_channels)

    def forward(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        x, label = self.scale(x), self.labels(label, len(x))
        # Channels last from here on: 1x1 convolutions and the softmax over levels then read memory in order.
        v = self.above(shift_down(x)).contiguous(memory_format=torch.channels_last)
        h = self.beside(x).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            v, h = block(v, h, label)
        return self.head(h)

    def pixel_layers(self) -> list[nn.Module]:
        return [self.above, self.beside, self.head[-1]]

    @property
    def lag(self) -> int:
        """By how many columns a row must be ahead of the row below: what the vertical stack sees and takes at once."""
        return self.above.ahead + sum(block.down.ahead for block in self.blocks) + AT_ONCE

    def stepper(self, wave: Wavefront, label: Tensor | None = None) -> "GatedStep":
        return GatedStep(self, wave, label)


class GatedStep(Stepper):
    """`GatedPixelCNN.forward` for one front: the vertical stack, which works ahead, then the horizontal one.

    A vertical layer looks to the right, in its own row too. So when a front is drawn, the last layer has got as
    far as that front, the layer before it as many columns further as the last one looks, and so on to the stem.
    The rows above are far enough ahead for that: this is what `lag` counts. The stack takes a few fronts at once:
    most of the time of a single picture goes into reading the weights, and then they are read less often.
    """

    def __init__(self, model: GatedPixelCNN, wave: Wavefront, label: Tensor | None):
        super().__init__(model, wave)
        self.above = model.above.stepper(wave, image_channels=wave.channels)
        biases = torch.stack([block.out.bias.detach() for block in model.blocks])
        lacks = torch.cat((torch.zeros_like(biases[:1]), biases)).cumsum(0)
        self.beside, self.head = model.beside.stepper(wave), model.head.stepper(wave, lacks[-1])
        self.vertical = [VerticalStep(block, wave, label, lacks[number]) for number, block in enumerate(model.blocks)]
        self.horizontal = HorizontalStep(model.blocks, wave, lacks)
        reach = [block.down.ahead for block in model.blocks]
        self.leads = [sum(reach[number:]) for number in range(len(reach) + 1)]  # of the stem, then of each block
        self.time = -1 - self.leads[0]  # as far as the front of this time the last layer has got
        self.links: list[Tensor] = []  # of the front, block by block

    def predict(self, front: Front) -> Conditionals:
        if front.time > self.time:
            self._look_up(front.time + AT_ONCE - 1)
        if front.channel == 0:
            self.links = [layer.links.popleft() for layer in self.vertical]
        return self.head(front, self.horizontal(front, self.beside(front), self.links))

    def _look_up(self, time: int) -> None:
        """Has the last vertical layer get as far as this time, and those before it further."""
        for lead, layer, below in zip(self.leads, [self.above, *self.vertical], [*self.vertical, None], strict=True):
            for band in self.wave.bands(self.time + lead, time + lead):
                v = layer(band)
                if below is not None:
                    below.down.put(band, v)
        self.time = time

    def put(self, front: Front, levels: Tensor) -> None:
        values = self.scaled.index_select(0, levels)
        self.above.put(front, values)
        self.beside.put(front, values)
