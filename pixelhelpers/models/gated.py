"""Gated PixelCNN: `gate`, `GatedBlock` and `GatedPixelCNN`, two stacks which together see every earlier pixel around.

Implemented: the Gated PixelCNN of van den Oord et al. 2016 for grey and colour images (R before G before
B), with a class bias in every gate, and beyond the paper with dropout. The vertical stack reads the image
shifted down by one row, so all that it knows of lies above. Not implemented: conditioning on a location
in the image, PixelCNN auto-encoders.

References:
    van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves, Kavukcuoglu, "Conditional Image Generation with
    PixelCNN Decoders", 2016, sections 2.1-2.4 and figure 2, https://arxiv.org/abs/1606.05328
"""

import torch
from torch import Tensor, nn

from ..errors import require
from ..layers import DownShiftedConv2d, MaskedConv2d, RowStep, shift_down
from ..stepping import DrawnRows, Front, Wavefront
from .base import AutoregressiveModel, Stepper
from .heads import Conditionals, SoftmaxHead


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


class GatedBlockStep:
    """`GatedBlock.forward` in two parts: `row` once per row for one stack, then `pixel` for the other.

    Arguments:
        block: the block.
        wave: the fronts, of one pixel each.
        label: classes `[N]`, for a block with classes.
    """

    def __init__(self, block: GatedBlock, wave: Wavefront, label: Tensor | None):
        self.block, self.wave, self.label = block, wave, label
        self.down, self.across, self.out = RowStep(block.down), block.across.stepper(wave), block.out.stepper(wave)
        self.link: Tensor | None = None  # of the row, [channel, column, image, feature]

    def row(self, v: Tensor) -> Tensor:
        """From and to `[N, hidden, 1, W]`."""
        v, link = self.block.told(self.down(v), self.label)
        self.link = link[:, :, 0].unflatten(1, (self.wave.channels, -1)).permute(1, 3, 0, 2).contiguous()
        return v

    def pixel(self, front: Front, h: Tensor) -> Tensor:
        """From and to the features `[N, of the front's channel]`, in place."""
        h_and_link = self.across(front, h, onto=self.link[front.channel, self.wave.column(front)])
        value, strength = h_and_link.chunk(2, 1)  # and their gate, in place
        return self.out(front, value.tanh_() * strength.sigmoid_(), onto=h)


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

    def stepper(self, wave: Wavefront, label: Tensor | None = None) -> "GatedStep":
        return GatedStep(self, wave, label)


class GatedStep(Stepper):
    """`GatedPixelCNN.forward` for one pixel: the vertical stack when a row begins, then the horizontal one."""

    def __init__(self, model: GatedPixelCNN, wave: Wavefront, label: Tensor | None):
        super().__init__(model, wave)
        self.above, self.beside = RowStep(model.above), model.beside.stepper(wave)
        self.blocks = [GatedBlockStep(block, wave, label) for block in model.blocks]
        self.head, self.rows = model.head.stepper(wave), DrawnRows(wave)

    def predict(self, front: Front) -> Conditionals:
        if self.rows.enter(front):
            v = self.above(self.rows.above[:, :-1])  # without the ones
            for block in self.blocks:
                v = block.row(v)
        h = self.beside(front)
        for block in self.blocks:
            h = block.pixel(front, h)
        return self.head(front, h)

    def put(self, front: Front, levels: Tensor) -> None:
        values = self.scaled[levels]
        self.beside.put(front, values)
        self.rows.put(front, values)
