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

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import require
from ..layers import MaskedConv2d, ReluStep
from ..stepping import Front, Wavefront
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


class ResidualStep:
    """`ResidualBlock.forward` for one front; it adds to `x` in place, all but the bias.

    Arguments:
        block: the block.
        wave: the fronts.
        lacks: what `x` lacks when it comes, `[hidden]`; None: nothing.
    """

    def __init__(self, block: ResidualBlock, wave: Wavefront, lacks: Tensor | None):
        self.squeeze, self.look = ReluStep(block.squeeze, wave, lacks), block.look.stepper(wave, bias=False)
        self.widen = ReluStep(block.widen, wave, block.look.bias.detach())
        self.lacks = self.widen.lacks if lacks is None else self.widen.lacks + lacks  # what `x` lacks afterwards
        copies = self.look.past.above + 1
        self.squeezed = [bias.expand(copies, 1, 1, -1) for bias in self.squeeze.lacks.split(self.look.past.groups)]

    def __call__(self, front: Front, x: Tensor) -> Tensor:
        h = self.squeeze(front, x)
        torch.add(h, self.squeezed[front.channel], out=self.look.past.own(front)).relu_()
        return self.widen(front, self.look(front), onto=x)


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
        self.blocks: list[ResidualStep] = []
        lacks = None
        for block in model.blocks:
            self.blocks.append(ResidualStep(block, wave, lacks))
            lacks = self.blocks[-1].lacks
        self.head = model.head.stepper(wave, lacks)

    def predict(self, front: Front) -> Conditionals:
        h = self.stem(front)
        for block in self.blocks:
            h = block(front, h)
        return self.head(front, h)

    def put(self, front: Front, levels: Tensor) -> None:
        self.stem.put(front, self.scaled[levels])
