"""Parallel Multiscale PixelCNN: `OpenBlock`, `GroupNetwork`, `MultiscalePixelCNN`, and its fronts, `Doublings`.

Implemented: the factorisation of Reed et al. 2017 for grey and colour images, with class conditioning. A
Gated PixelCNN draws every 2^k-th pixel. A doubling then halves that distance: of every square of 2x2 pixels
the upper left one is there, and the other three are drawn in three groups. The pixels of a group depend on
all earlier groups but not on each other: that is the model's one assumption beyond the chain rule, and one
network evaluation gives them all (in colour the features once, and the head once for each channel).

Different from the paper: it has two kinds of networks for a group, and this is the weaker one, its type A (figure
3). For images it used type B: the features are cut into patches of 4x4, and a shallow PixelCNN inside each patch
lets its pixels depend on each other, for 16 small evaluations more. So what is lost here by independence, and the
score, is not the paper's. Each group has its own network at the resolution of the group, which reads the earlier
groups as planes; the paper's last group reads the whole image at full resolution. Its networks have 12 residual
layers of 256 features for ImageNet, here 4 blocks of 72. Not implemented: conditioning on text, robot actions
or video.

References:
    Reed, van den Oord, Kalchbrenner, Gomez Colmenarejo, Wang, Belov, de Freitas, "Parallel Multiscale
    Autoregressive Density Estimation", 2017, https://arxiv.org/abs/1703.03664
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..distributions import Categorical
from ..errors import require
from ..layers import MaskedConv2d
from ..stepping import Front, Fronts, Wavefront
from .base import AutoregressiveModel, Recipe, Stepper, at_least
from .gated import GatedPixelCNN
from .heads import SoftmaxHead
from .pixelcnn import ResidualBlock

BASE_BLOCKS = 2  # with its stem of 7x7 enough to see most of a small image
GROUPS = ((0, 1), (1, 0), (1, 1))  # where in a square of 2x2 they stand: upper right, lower left, lower right


class OpenBlock(nn.Module):
    """PixelCNN's residual block without a mask: what it sees has all been drawn.

    Arguments:
        hidden: number of features, even.
        dropout: probability in [0, 1) that a squeezed feature is dropped in training.

    Shapes:
        input and output `[N, hidden, H, W]`.

    References:
        He et al., "Identity Mappings in Deep Residual Networks", 2016, section 4,
        https://arxiv.org/abs/1603.05027

    Example:
        >>> OpenBlock(hidden=16)(torch.zeros(2, 16, 7, 7)).shape
        torch.Size([2, 16, 7, 7])
    """

    def __init__(self, hidden: int, dropout: float = 0.0):
        super().__init__()
        half = hidden // 2
        self.squeeze = nn.Conv2d(hidden, half, 1)
        self.look = nn.Conv2d(half, half, 3, padding=1)
        self.widen = nn.Conv2d(half, hidden, 1)
        self.dropout = nn.Dropout(dropout)

    forward = ResidualBlock.forward  # only the masks are gone


class GroupNetwork(nn.Module):
    """Predicts one group of a doubling from the groups that are there.

    Arguments:
        planes: how many of the four pixels of a square are there, 1 to 3.
        model: the model that it is a part of, for `levels`, `image_channels` and `classes`.
        hidden: number of features, even.
        blocks: number of residual blocks.
        dropout: as for `OpenBlock`.

    Shapes:
        `there` `[N, planes * C, h, w]`, scaled; `own`, the group itself, `[N, C, h, w]`, scaled, of which a
        channel sees only those before it; logits as `forward` of a softmax model.

    References:
        Reed et al. 2017, section 3.1 and figure 3, A.
    """

    def __init__(self, planes: int, model: AutoregressiveModel, hidden: int, blocks: int, dropout: float):
        super().__init__()
        channels = model.image_channels
        self.stem = nn.Conv2d(planes * channels + 1, hidden, 5, padding=2)  # and the ones: they end at the edge
        self.class_bias = None if model.classes is None else nn.Embedding(model.classes, hidden)
        self.blocks = nn.Sequential(*[OpenBlock(hidden, dropout) for _ in range(blocks)])
        self.earlier = MaskedConv2d("A", channels, hidden, 1, channels) if channels > 1 else None
        self.head = SoftmaxHead(hidden, model.levels, channels)

    def features(self, there: Tensor, label: Tensor | None) -> Tensor:
        """What can be said before the group's first channel is drawn: the larger part of the work."""
        h = self.stem(nn.functional.pad(there, (0, 0, 0, 0, 0, 1), value=1.0)).contiguous(
            memory_format=torch.channels_last
        )
        if label is not None:
            h = h + self.class_bias(label)[:, :, None, None].to(h.dtype)
        return self.blocks(h)

    def logits(self, features: Tensor, own: Tensor) -> Tensor:
        """`[N, levels, h, w]`, for colour `[N, levels, C, h, w]`."""
        return self.head(features if self.earlier is None else features + self.earlier(own))


class MultiscalePixelCNN(AutoregressiveModel):
    """Parallel Multiscale PixelCNN: a Gated PixelCNN for every 2^k-th pixel, then k doublings of three groups.

    Arguments:
        levels: number of levels of a value, at least 2.
        image_channels: 1 for grey images, 3 for colour.
        image_size: side in pixels that `sample` draws when it is not told another: base * 2^doublings, which
            is the default. Sides that 2^doublings divides can be scored and drawn, others are refused.
        classes: number of classes to condition on, or None.
        hidden: number of features of every network, even, and a multiple of `image_channels`.
        blocks: number of residual blocks of each group's network, at least 1.
        dropout: probability in [0, 1) that a feature is dropped in training.
        base: side of the smallest image, which is drawn pixel by pixel; default: what fits `image_size`, or 7.
        doublings: number of doublings k, at least 1; each costs three evaluations.

    Shapes:
        images `[N, C, H, W]`, integers in `[0, levels)`; logits `[N, levels, H, W]`, for colour
        `[N, levels, C, H, W]`.

    References:
        Reed et al. 2017, equation 2, section 3.1.

    Example:
        >>> import torch
        >>> model = MultiscalePixelCNN(hidden=16, blocks=1, base=7, doublings=2)
        >>> x = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
        >>> model(x).shape
        torch.Size([4, 256, 28, 28])
        >>> int(model.order((28, 28)).max()) + 1, "turns for 784 pixels"
        (55, 'turns for 784 pixels')
    """

    recipes = (Recipe("muon", 8, 0.02), Recipe("adam", 8, 0.004))
    head = SoftmaxHead  # the class: each network has a head of its own, and reading logits needs no layers

    def __init__(
        self,
        *,
        levels: int = 256,
        image_channels: int = 1,
        image_size: int | None = None,
        classes: int | None = None,
        hidden: int = 72,
        blocks: int = 4,
        dropout: float = 0.0,
        base: int | None = None,
        doublings: int = 2,
    ):
        at_least(1, image_size=image_size or 1, base=base or 1, doublings=doublings)
        image_size, base = _sides(image_size, base, doublings)
        super().__init__(
            levels=levels, image_channels=image_channels, image_size=image_size, classes=classes, dropout=dropout
        )
        at_least(1, hidden=hidden, blocks=blocks)
        if hidden % 2 or hidden % image_channels:
            fitting = "an even number" if image_channels == 1 else f"an even multiple of the {image_channels} channels"
            raise ValueError(f"hidden is {hidden}: give {fitting}.")
        self.settings, self.doublings = {"image_size": image_size, "base": base}, doublings
        self.base = GatedPixelCNN(
            levels=levels,
            image_channels=image_channels,
            image_size=base,
            classes=classes,
            hidden=hidden,
            blocks=BASE_BLOCKS,
            dropout=dropout,
        )
        self.groups = nn.ModuleList(
            nn.ModuleList(GroupNetwork(planes, self, hidden, blocks, dropout) for planes in (1, 2, 3))
            for _ in range(doublings)
        )

    def forward(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        logits, *groups = [logits for logits, _ in self._parts(x, label)]
        for first in range(0, len(groups), len(GROUPS)):
            logits = _interleaved([logits, *groups[first : first + len(GROUPS)]])
        return logits

    def log_prob(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        return sum(self.head.log_prob(logits, self.values(levels)) for logits, levels in self._parts(x, label))

    def _parts(self, x: Tensor, label: int | Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """The logits of the smallest image and of each group, and the levels that they are for."""
        scaled, label = self.scale(x), self.labels(label, len(x))
        self._check(x.shape[-2:])
        smallest = x[:, :, :: 2**self.doublings, :: 2**self.doublings]
        yield self.base(smallest, label), smallest
        for networks, step in zip(self.groups, _steps(self.doublings), strict=True):
            planes, levels = _planes(scaled[:, :, ::step, ::step]), _planes(x[:, :, ::step, ::step])
            for number, network in enumerate(networks, start=1):
                features = network.features(torch.cat(planes[:number], 1), label)
                yield network.logits(features, planes[number]), levels[number]

    def order(self, shape: tuple[int, ...]) -> Tensor:
        """Gives the rank of every value: the smallest image in raster order, then one rank for each group.

        Arguments:
            shape: (height, width), or (channels, height, width); sides that 2^doublings divides.

        Returns:
            int64 `[C, H, W]`; in colour a group's channels follow each other.
        """
        height, width = shape[-2:]
        self._check((height, width))
        coarsest = 2**self.doublings
        rank = torch.arange((height // coarsest) * (width // coarsest)).view(height // coarsest, width // coarsest)
        for _ in range(self.doublings):
            later = [torch.full_like(rank, int(rank.max()) + number) for number in (1, 2, 3)]
            rank = _interleaved([rank, *later])
        return rank * self.image_channels + torch.arange(self.image_channels).view(-1, 1, 1)

    def _check(self, shape: tuple[int, int]) -> None:
        coarsest = 2**self.doublings
        for side in shape:
            require(
                side >= 1 and side % coarsest == 0,
                f"images are {shape[0]} x {shape[1]} pixels: with doublings={self.doublings} sides are multiples "
                f"of {coarsest}; give {_fitting(side, coarsest)} instead of {side}, or a model of fewer doublings.",
            )

    def fronts(self, count: int, shape: tuple[int, int, int], like: Tensor) -> "Doublings":
        """Says which values a `stepper` computes together: pixels of the smallest image, then whole groups.

        Arguments:
            count: number of images.
            shape: (C, H, W) of an image; sides that 2^doublings divides.
            like: a tensor of the precision and on the device of the features.
        """
        channels, height, width = shape
        self._check((height, width))
        coarsest = 2**self.doublings
        base = self.base.fronts(count, (channels, height // coarsest, width // coarsest), like)
        return Doublings(base, self.doublings)

    def pixel_layers(self) -> list[nn.Module]:
        networks = [network for doubling in self.groups for network in doubling]
        layers = [layer for network in networks for layer in (network.stem, network.earlier, network.head[-1])]
        return self.base.pixel_layers() + [layer for layer in layers if layer is not None]

    def stepper(self, wave: "Doublings", label: Tensor | None = None) -> "MultiscaleStep":
        return MultiscaleStep(self, wave, label)


class Doublings(Fronts):
    """The fronts of the smallest image, then each group of each doubling as one front.

    Arguments:
        base: the fronts of the smallest image.
        doublings: number of doublings.
    """

    def __init__(self, base: Wavefront, doublings: int):
        self.base, self.doublings = base, doublings
        self.first_group = 1 + int(base.time.max())  # its time
        coarsest = 2**doublings
        height, width = base.height * coarsest, base.width * coarsest
        raster = torch.arange(height * width).view(height, width)
        parts = [raster[::coarsest, ::coarsest].flatten()[base.pixels]]
        for step in _steps(doublings):
            parts += [plane.flatten() for plane in _planes(raster[::step, ::step])[1:]]
        super().__init__(base.count, (base.channels, height, width), base.like, torch.cat(parts))

    def __iter__(self) -> Iterator[Front]:
        yield from self.base
        begin, time = self.base.height * self.base.width, self.first_group
        for step in _steps(self.doublings):
            rows, columns = self.height // step // 2, self.width // step // 2
            for _ in GROUPS:
                end = begin + rows * columns
                for channel in range(self.channels):
                    yield Front(time, 0, rows, channel, rows * columns * self.count, slice(begin, end))
                begin, time = end, time + 1

    def group(self, front: Front) -> tuple[int, int] | None:
        """The doubling and the number of the group that a front is, None for one of the smallest image."""
        turn = front.time - self.first_group
        return None if turn < 0 else divmod(turn, len(GROUPS))


class MultiscaleStep(Stepper):
    """`MultiscalePixelCNN.forward` for one front: the smallest image by its own step, then each group's network."""

    def __init__(self, model: MultiscalePixelCNN, wave: Doublings, label: Tensor | None):
        super().__init__(model, wave)
        self.model, self.label = model, label
        self.base = model.base.stepper(wave.base, label)
        self.image = wave.like.new_zeros(wave.count, wave.channels, wave.height, wave.width)  # scaled
        self.places = wave.pixels.to(wave.like.device)
        self.features: Tensor | None = None  # of the group that is being drawn

    def predict(self, front: Front) -> Categorical:
        group = self.wave.group(front)
        if group is None:
            return self.base.predict(front)
        doubling, number = group
        step = _steps(self.model.doublings)[doubling]
        planes = _planes(self.image[:, :, ::step, ::step])
        network = self.model.groups[doubling][number]
        if front.channel == 0:
            self.features = network.features(torch.cat(planes[: number + 1], 1), self.label)
        logits = network.logits(self.features, planes[number + 1])
        own = SoftmaxHead.levels_last(logits)[:, front.channel]  # [N, h, w, levels]
        return Categorical(logits=own.permute(1, 2, 0, 3).flatten(0, 2))

    def put(self, front: Front, levels: Tensor) -> None:
        pixels = self.places[front.pixels]
        self.image.flatten(2)[:, front.channel, pixels] = self.scaled[levels].view(-1, self.wave.count).T
        if self.wave.group(front) is None:
            self.base.put(front, levels)


def _steps(doublings: int) -> list[int]:
    """How far apart the pixels are after each doubling."""
    return [2**k for k in reversed(range(doublings))]


def _planes(x: Tensor) -> list[Tensor]:
    """The pixels of all squares of 2x2, by their place in the square: the one that is there, then the groups."""
    return [x[..., row::2, column::2] for row, column in ((0, 0), *GROUPS)]


def _interleaved(planes: list[Tensor]) -> Tensor:
    """Undoes `_planes`: `[..., h, w]` four times to `[..., 2h, 2w]`."""
    squares = torch.stack(planes, -1).unflatten(-1, (2, 2))  # [..., h, w, 2, 2]
    return squares.transpose(-3, -2).flatten(-2).flatten(-3, -2)


def _sides(image_size: int | None, base: int | None, doublings: int) -> tuple[int, int]:
    """Completes image_size = base * 2^doublings."""
    require(doublings <= 16, f"doublings is {doublings}: give at most 16.")
    coarsest = 2**doublings
    if base is None and image_size is not None:
        base, rest = divmod(image_size, coarsest)
        require(
            not rest and base >= 1,
            f"image_size is {image_size}: with doublings={doublings} sides are multiples of {coarsest}; "
            f"give {_fitting(image_size, coarsest)}, or fewer doublings.",
        )
    base = 7 if base is None else base
    require(base >= 1, f"base is {base}: give at least 1.")
    require(
        image_size in (None, base * coarsest),
        f"image_size is {image_size}, but a base of {base} doubled {doublings} times is {base * coarsest}: "
        "leave out image_size or base, or give doublings that fit.",
    )
    return base * coarsest, base


def _fitting(side: int, coarsest: int) -> str:
    """The multiples next to a side that is none."""
    below = side // coarsest * coarsest
    return f"{below} or {below + coarsest}" if below > 0 else f"{coarsest}"
