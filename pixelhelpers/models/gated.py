"""Gated PixelCNN: two stacks of gated convolutions, which together see every earlier pixel around.

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

from ..distributions import Categorical
from ..layers import DownShiftedConv2d, GatedBlock, MaskedConv2d, shift_down
from ..wavefront import Front, Wavefront
from .base import SoftmaxModel, Stepper


class GatedPixelCNN(SoftmaxModel):
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
            levels=levels,
            image_channels=image_channels,
            image_size=image_size,
            classes=classes,
            hidden=hidden,
            blocks=blocks,
            dropout=dropout,
        )
        if blocks < 1:
            raise ValueError(f"blocks is {blocks}: give at least 1, the horizontal stack looks up only there.")
        if hidden < image_channels or hidden % image_channels:
            raise ValueError(f"hidden is {hidden}: give a multiple of {image_channels}, the number of channels.")
        self.above = DownShiftedConv2d(image_channels, hidden, (3, 7))
        self.beside = MaskedConv2d("A", image_channels, hidden, (1, 7), image_channels)
        self.blocks = nn.ModuleList(GatedBlock(hidden, 3, classes, dropout, image_channels) for _ in range(blocks))
        self.head = self.softmax_head(hidden)

    def forward(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        x, label = self.scale(x), self.labels(label, len(x))
        # Channels last from here on: 1x1 convolutions and the softmax over levels then read memory in order.
        v = self.above(shift_down(x)).contiguous(memory_format=torch.channels_last)
        h = self.beside(x).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            v, h = block(v, h, label)
        return self.by_level(self.head(h))

    @property
    def lag(self) -> int:
        """By how many columns a row must be ahead of the row below it: by all of them.

        The vertical stack computes whole rows, so a row must be complete before the next one begins.
        """
        return 1 << 30  # more than any width

    def stepper(self, wave: Wavefront, label: Tensor | None = None) -> Stepper:
        """Gives the model's other way to run: the vertical stack row by row, the horizontal one pixel by pixel.

        Arguments:
            wave: the fronts, of one pixel each.
            label: classes `[N]`, for a model with classes.
        """
        above, beside = self.above.stepper(), self.beside.stepper(wave)
        blocks = [block.stepper(wave, label) for block in self.blocks]
        hidden, output = (layer.stepper(wave) for layer in (self.head[1], self.head[3]))
        scaled = self._scaled(torch.arange(self.levels, device=wave.like.device))[:, None]  # of every level
        drawn = wave.like.new_zeros(wave.count, wave.channels, 1, wave.width)  # the newest row, scaled

        def predict(front: Front) -> Categorical:
            if front.channel == 0 and wave.column(front) == 0:  # a new row: look at the one above
                v = above(drawn)
                for block in blocks:
                    v = block.row(v)
            h = beside(front)
            for block in blocks:
                h = block.step(front, h)
            h = hidden(front, h.relu_())
            return Categorical(logits=output(front, h.relu_()))

        def put(front: Front, levels: Tensor) -> None:
            values = scaled[levels]
            beside.put(front, values)
            drawn[:, front.channel, 0, wave.column(front)] = values[:, 0]

        return Stepper(predict, put)
