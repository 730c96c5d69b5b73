"""PixelCNN: masked convolutions that predict a distribution for every pixel at once.

Implemented: the PixelCNN of van den Oord et al. 2016 for grey and colour images (R before G before B),
with dropout in the residual blocks and, beyond the paper, a class bias after the stem. Not implemented:
the row and diagonal LSTMs and the multi-scale variant of the same paper.

References:
    van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel Recurrent Neural Networks", 2016, sections 2, 3.3-3.5
    and table 1, https://arxiv.org/abs/1601.06759
"""

import torch
from torch import Tensor, nn

from ..distributions import Categorical
from ..layers import MaskedConv2d, ResidualBlock, channel_groups
from ..wavefront import Front, Wavefront
from .base import SoftmaxModel, Stepper


class PixelCNN(SoftmaxModel):
    """PixelCNN: a 7x7 convolution of type A, residual blocks of type B, a 1x1 head, a softmax per value.

    Arguments:
        levels: number of levels of a value, at least 2.
        image_channels: 1 for grey images, 3 for colour.
        image_size: side in pixels that `sample` draws when it is not told another; any size can be scored.
        classes: number of classes to condition on, or None.
        hidden: number of features.
        blocks: number of residual blocks; each lets the model look one pixel further.
        dropout: probability in [0, 1) that a squeezed feature is dropped in training.

    Shapes:
        images `[N, C, H, W]`, integers in `[0, levels)`; logits `[N, levels, H, W]`, for colour
        `[N, levels, C, H, W]`.

    References:
        van den Oord et al. 2016, table 1.

    Example:
        >>> import torch
        >>> model = PixelCNN(hidden=32, blocks=2)
        >>> x = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
        >>> model(x).shape
        torch.Size([4, 256, 28, 28])
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
        if blocks < 0:
            raise ValueError(f"blocks is {blocks}: give at least 0.")
        if hidden < 2 * image_channels or hidden % 2:
            raise ValueError(f"hidden is {hidden}: give an even number of at least {2 * image_channels}.")
        self.stem = MaskedConv2d("A", image_channels, hidden, 7, image_channels)
        self.class_bias = None if classes is None else nn.Embedding(classes, hidden)
        self.blocks = nn.Sequential(*(ResidualBlock(hidden, 3, dropout, image_channels) for _ in range(blocks)))
        self.head = self.softmax_head(hidden)

    def forward(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        # Channels last from here on: 1x1 convolutions and the softmax over levels then read memory in order.
        h = self.stem(self.scale(x)).contiguous(memory_format=torch.channels_last)
        label = self.labels(label, len(x))
        if label is not None:
            h = h + self.class_bias(label)[:, :, None, None]
        return self.by_level(self.head(self.blocks(h)))

    @property
    def lag(self) -> int:
        """By how many columns a row must be ahead of the row below it: the stem's kernel is the widest."""
        return self.stem.lag

    def stepper(self, wave: Wavefront, label: Tensor | None = None) -> Stepper:
        """Gives the model's other way to run, front after front: the steps of its layers, one after the other.

        Arguments:
            wave: the fronts, of the model's lag.
            label: classes `[N]`, for a model with classes.
        """
        stem = self.stem.stepper(wave)
        blocks = [block.stepper(wave) for block in self.blocks]
        hidden, output = (layer.stepper(wave) for layer in (self.head[1], self.head[3]))
        scaled = self._scaled(torch.arange(self.levels, device=wave.like.device))[:, None]  # of every level
        bias = None
        if label is not None:  # one line for each line of the largest front, split as the features are
            lines = self.class_bias(label).repeat(max(front.rows for front in wave), 1)
            bias = lines.split(channel_groups(self.stem.out_channels, self.image_channels).bincount().tolist(), 1)

        def predict(front: Front) -> Categorical:
            h = stem(front)
            if bias is not None:
                h += bias[front.channel][: front.size]
            for block in blocks:
                h = block(front, h)
            h = hidden(front, h.relu_())
            return Categorical(logits=output(front, h.relu_()))

        def put(front: Front, levels: Tensor) -> None:
            stem.put(front, scaled[levels])

        return Stepper(predict, put)
