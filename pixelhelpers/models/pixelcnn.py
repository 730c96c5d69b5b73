"""PixelCNN: `ResidualBlock` and `PixelCNN`, masked convolutions that predict a distribution for every pixel at once.

Implemented: the PixelCNN of van den Oord et al. 2016 for grey and colour images (R before G before B),
and, beyond the paper, with dropout in the residual blocks and a class bias after the stem. Not implemented:
the row and diagonal LSTMs and the multi-scale variant of the same paper.

Different from the paper: it also connects layers to the output, here only the residual connections are there;
its head has 1024 features for colour images, here as many as the blocks; its network for CIFAR-10 has 15 layers
that squeeze 256 features to 128, the default here 5 that squeeze 64 to 32; black and white digits get a softmax
here, too, where it has a sigmoid.

References:
    van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel Recurrent Neural Networks", 2016, sections 2, 3.3-3.5
    and 4, table 1, https://arxiv.org/abs/1601.06759
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import require
from ..layers import MaskedConv2d, ReluStep, group_sizes
from ..stepping import Front, Past, Wavefront, beside_earlier
from .base import AutoregressiveModel, Recipe, Stepper, at_least
from .heads import Conditionals, SoftmaxHead


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


class ResidualBlocksStep:
    """`ResidualBlock.forward` of all blocks for one front, in few operations, and in memory that stays.

    Features lack biases, as in `ReluStep`.

    Arguments:
        blocks: the blocks, at least one.
        wave: the fronts.
    """

    def __init__(self, blocks: Sequence[ResidualBlock], wave: Wavefront):
        self.wave, look = wave, blocks[0].look
        self.features, self.half = (
            group_sizes(features, wave.channels) for features in (blocks[0].squeeze.in_channels, look.in_channels)
        )
        self.past = Past(wave, self.half, *look.padding, look.ahead, layers=len(blocks))
        layers, lacks = [], wave.like.new_zeros(sum(self.features))
        for block in blocks:
            squeeze = ReluStep(block.squeeze, wave, lacks)
            bias = squeeze.lacks.expand(look.padding[0] + 1, 1, 1, -1).split(self.half, -1)
            kernels = self.past.right_factors(look.live(block.look.weight * block.look.mask), self.half)
            widen = ReluStep(block.widen, wave, block.look.bias.detach())
            parts = (squeeze.floors, squeeze.conv.weight, bias, kernels, widen.floors, widen.conv.weight)
            layers.append(zip(*parts, strict=True))
            lacks = lacks + widen.lacks
        self.lacks = lacks  # what the features lack after the last block, `[hidden]`
        self.layers = list(zip(*layers, strict=True))  # by channel, then by block
        self.size = 0  # of the fronts that there is memory for

    def __call__(self, front: Front, x: Tensor) -> Tensor:
        """Adds to the features `[front.size, of the front's channel]`, in place, all but `lacks`; gives them back."""
        if front.size != self.size:
            self._make_room(front.size)
        layers, rooms, h = self.layers[front.channel], self.rooms[front.channel], self.products[front.channel]
        own, windows = self.past.own(front).unbind(0), self.past.window(front).unbind(0)
        for layer, (positive, all_positive, looked, all_looked), squeezed, window in zip(
            layers, rooms, own, windows, strict=True
        ):
            floor, squeeze, bias, look, least, widen = layer
            torch.maximum(x, floor, out=positive)
            torch.mm(all_positive, squeeze, out=h)
            torch.add(h, bias, out=squeezed).relu_()
            torch.mm(window, look, out=h)
            torch.maximum(h, least, out=looked)
            x.addmm_(all_looked, widen)
        return x

    def _make_room(self, size: int) -> None:
        """Makes the memory for fronts of this size. There, a channel's features stand beside those of earlier ones."""
        self.size, like, blocks = size, self.wave.like, len(self.layers[0])
        self.products = [like.new_empty(size, features) for features in self.half]

        def room() -> list[tuple[Tensor, ...]]:
            pairs = zip(*(beside_earlier(size, groups, like) for groups in (self.features, self.half)), strict=True)
            return [wide + narrow for wide, narrow in pairs]

        # In grey, nothing is needed later: all blocks use the same memory, which so stays in the cache.
        rooms = [room()] * blocks if self.wave.channels == 1 else [room() for _ in range(blocks)]
        self.rooms = list(zip(*rooms, strict=True))  # by channel, then by block


class PixelCNN(AutoregressiveModel):
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
        at_least(0, blocks=blocks)
        require(
            hidden >= 2 * image_channels and hidden % 2 == 0,
            f"hidden is {hidden}: give an even number of at least {2 * image_channels}.",
        )
        self.stem = MaskedConv2d("A", image_channels, hidden, 7, image_channels)
        self.class_bias = None if classes is None else nn.Embedding(classes, hidden)
        self.blocks = nn.Sequential(*(ResidualBlock(hidden, 3, dropout, image_channels) for _ in range(blocks)))
        self.head = SoftmaxHead(hidden, levels, image_channels)

    def forward(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        # Channels last from here on: 1x1 convolutions and the softmax over levels then read memory in order.
        h = self.stem(self.scale(x)).contiguous(memory_format=torch.channels_last)
        label = self.labels(label, len(x))
        if label is not None:
            h = h + self.class_bias(label)[:, :, None, None]
        return self.head(self.blocks(h))

    @property
    def lag(self) -> int:
        """By how many columns a row must be ahead of the row below it: the stem's kernel is the widest."""
        return self.stem.lag

    def stepper(self, wave: Wavefront, label: Tensor | None = None) -> "PixelCNNStep":
        return PixelCNNStep(self, wave, label)


class PixelCNNStep(Stepper):
    """`PixelCNN.forward` for one front: the steps of its layers, one after the other."""

    def __init__(self, model: PixelCNN, wave: Wavefront, label: Tensor | None):
        super().__init__(model, wave)
        self.stem = model.stem.stepper(wave, True if label is None else model.stem.bias + model.class_bias(label))
        self.blocks = ResidualBlocksStep(model.blocks, wave) if model.blocks else None
        self.head = model.head.stepper(wave, None if self.blocks is None else self.blocks.lacks)

    def predict(self, front: Front) -> Conditionals:
        h = self.stem(front)
        return self.head(front, h if self.blocks is None else self.blocks(front, h))

    def put(self, front: Front, levels: Tensor) -> None:
        self.stem.put(front, self.scaled.index_select(0, levels))
