"""Heads, which say what a network's features mean: `Head`, `SoftmaxHead`, `MixtureHead` and their steps.

References:
    van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel Recurrent Neural Networks", 2016, section 2.2,
    https://arxiv.org/abs/1601.06759
    Salimans, Karpathy, Chen, Kingma, "PixelCNN++", 2017, sections 2.1-2.2, https://arxiv.org/abs/1701.05517
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..distributions import Categorical, DiscretizedLogisticMixture, categorical_log_prob
from ..errors import require
from ..layers import MaskedConv2d, ReluStep
from ..stepping import Front, PixelStep, Wavefront

At = tuple[int | slice, int | slice, int | slice]
Conditionals = Distribution  # with `.pmf()`, `[..., levels]`


class Head(Protocol):
    """What every head, a module, can do: parameters from features, and from these distributions and likelihoods.

    To read logits no layers are needed: a model whose logits come from elsewhere has the class `SoftmaxHead` as
    its head, and asks it for all but `forward` and `stepper`.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Gives the parameters of every value's distribution from features `[N, hidden, H, W]`."""

    def conditionals(self, parameters: Tensor, x: Tensor, at: At | None = None) -> Conditionals:
        """Gives the distribution of every value given the earlier ones, with `.pmf()`.

        Arguments:
            parameters: what `forward` gives.
            x: the images, integers `[N, C, H, W]`: a value may depend on earlier channels of its pixel.
            at: (row, column, channel), numbers or slices: which values to ask about; None: all.
        """

    def conditional_parameters(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Gives the numbers that fix every conditional, `[N, numbers, H, W]` or `[N, numbers, C, H, W]`."""

    def log_prob(self, parameters: Tensor, levels: Tensor) -> Tensor:
        """Scores images: nats `[N]`, at most 0.

        Arguments:
            parameters: what `forward` gives.
            levels: int64 `[N, C, H, W]`.
        """

    def stepper(self, wave: Wavefront) -> "HeadStep":
        """Gives the head's other way to run, for one sampling call."""


class HeadStep(Protocol):
    """A head's other way to run: from the features of a front to the distributions of its values."""

    def __call__(self, front: Front, h: Tensor) -> Conditionals:
        """Gives the conditionals, batch `[front.size]`; it may overwrite the features, `[front.size, features]`.

        The features are those of the front's channel, or, where the network has the same for all channels of a
        pixel, these, channel after channel.
        """

    def put(self, front: Front, levels: Tensor) -> None:
        """Tells the head what the front's values became, `[front.size]`; not all heads need to know."""


# -- a probability for every level ------------------------------------------------------------------


class SoftmaxHead(nn.Sequential):
    """Two 1x1 convolutions of type B, each after a ReLU, to one logit per level, and a softmax over these.

    To read logits, wherever they come from, no layers are needed: `SoftmaxHead.log_prob(logits, levels)`.

    Arguments:
        hidden: number of features, shared among the image channels as in `layers.channel_groups`.
        levels: number of levels of a value.
        image_channels: 1 for grey images, 3 for colour.

    Shapes:
        features `[N, hidden, H, W]`, logits `[N, levels, H, W]`, for colour `[N, levels, C, H, W]`.

    References:
        van den Oord et al. 2016, section 2.2 and table 1.

    Example:
        >>> SoftmaxHead(hidden=12, levels=4, image_channels=3)(torch.zeros(2, 12, 5, 5)).shape
        torch.Size([2, 4, 3, 5, 5])
    """

    def __init__(self, hidden: int, levels: int, image_channels: int = 1):
        super().__init__(
            nn.ReLU(),
            MaskedConv2d("B", hidden, hidden, 1, image_channels),
            nn.ReLU(),
            MaskedConv2d("B", hidden, levels * image_channels, 1, image_channels),
        )
        self.levels, self.image_channels = levels, image_channels

    def forward(self, features: Tensor) -> Tensor:
        logits = super().forward(features)
        if self.image_channels == 1:
            return logits
        return logits.unflatten(1, (self.image_channels, self.levels)).transpose(1, 2)

    @staticmethod
    def levels_last(logits: Tensor) -> Tensor:
        """Gives logits of either shape as `[N, C, H, W, levels]`, without a copy."""
        return (logits.unsqueeze(2) if logits.dim() == 4 else logits).movedim(1, -1)

    @staticmethod
    def conditionals(logits: Tensor, x: Tensor, at: At | None = None) -> Categorical:
        logits = SoftmaxHead.levels_last(logits)
        if at is not None:
            row, column, channel = at
            logits = logits[:, channel, row, column]
        return Categorical(logits=logits)

    @staticmethod
    def conditional_parameters(logits: Tensor, x: Tensor) -> Tensor:
        return logits

    @staticmethod
    def log_prob(logits: Tensor, levels: Tensor) -> Tensor:
        # Levels are last and, in the channels-last layout, contiguous: no copy of the largest tensor.
        logits = SoftmaxHead.levels_last(logits).flatten(0, -2)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return categorical_log_prob(logits, levels.flatten()).view(levels.shape).flatten(1).sum(1)

    def stepper(self, wave: Wavefront, lacks: Tensor | None = None) -> "SoftmaxStep":
        return SoftmaxStep(self, wave, lacks)


class SoftmaxStep(HeadStep):
    """`SoftmaxHead.forward` for one front.

    Arguments:
        head: the head.
        wave: the fronts.
        lacks: what the features lack, `[hidden]`, as for `layers.ReluStep`; None: nothing.
    """

    def __init__(self, head: SoftmaxHead, wave: Wavefront, lacks: Tensor | None = None):
        _, hidden, _, output = head
        self.hidden = ReluStep(hidden, wave, lacks)
        self.output = ReluStep(output, wave, self.hidden.lacks)
        self.bias = self.output.lacks.split(head.levels)

    def __call__(self, front: Front, h: Tensor) -> Categorical:
        return Categorical(logits=self.output(front, self.hidden(front, h)).add_(self.bias[front.channel]))


# -- a mixture of logistics -------------------------------------------------------------------------


class MixtureHead(nn.Conv2d):
    """A 1x1 convolution after an ELU to the parameters of a mixture of logistics per pixel.

    The channels of a pixel depend on each other through the mixture alone. Components begin side by side over the
    whole range of levels.

    Arguments:
        hidden: number of features.
        components: number of logistics in the mixture, at least 1.
        levels: number of levels of a value, as many as you like; but levels that are codes have no neighbours, which a
            logistic takes for granted: a softmax suits them.
        image_channels: 1 for grey images, 3 for colour.

    Shapes:
        features `[N, hidden, H, W]`; parameters for grey images `[N, 3 * components, H, W]`: logits, means,
        log-scales; for colour `[N, 10 * components, H, W]`: one logit per component, then means, log-scales and
        coefficients of all channels.

    Raises:
        ValueError: for less than one component, or another number of image channels than 1 and 3.

    References:
        Salimans et al. 2017, sections 2.1-2.2.

    Example:
        >>> MixtureHead(hidden=8, components=5, levels=256, image_channels=3)(torch.zeros(2, 8, 7, 7)).shape
        torch.Size([2, 50, 7, 7])
    """

    def __init__(self, hidden: int, components: int, levels: int, image_channels: int = 1):
        require(components >= 1, f"components is {components}: give at least 1.")
        require(
            image_channels in (1, 3), f"image_channels is {image_channels}: give 1 for grey images or 3 for colour."
        )
        super().__init__(hidden, (3 if image_channels == 1 else 10) * components, 1)
        self.components, self.levels, self.image_channels = components, levels, image_channels
        with torch.no_grad():  # each an eighth of the range wide
            _, means, log_scales = self.bias[: 7 * components if image_channels == 3 else None].split(
                [components, image_channels * components, image_channels * components]
            )
            means.copy_(torch.linspace(-1, 1, components).repeat(image_channels))
            log_scales.sub_(2)

    def forward(self, features: Tensor) -> Tensor:
        features = nn.functional.elu(features)
        # In its own precision: in bfloat16 the means would move in steps of half a level.
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.to(self.weight.dtype))

    def mixture(self, parameters: Tensor) -> DiscretizedLogisticMixture:
        """Reads the network's output: for grey images the mixtures of all values, for colour of all pixels.

        Arguments:
            parameters: `[..., parameters of a pixel]`.
        """
        if self.image_channels == 1:
            return DiscretizedLogisticMixture(*parameters.chunk(3, -1), levels=self.levels)
        logits, rest = parameters.tensor_split([self.components], -1)
        means, log_scales, coefficients = rest.unflatten(-1, (3, 3, -1)).unbind(-3)
        return DiscretizedLogisticMixture(logits, means, log_scales, coefficients.tanh(), self.levels)

    def conditionals(self, parameters: Tensor, x: Tensor, at: At | None = None) -> DiscretizedLogisticMixture:
        rows, columns, channels = (slice(None),) * 3 if at is None else at
        mixture = self.mixture(parameters.movedim(1, -1)[:, rows, columns])
        if self.image_channels == 1:
            parts = [part.unsqueeze(-2) for part in (mixture.logits, mixture.means, mixture.log_scales)]
        else:
            given = mixture.conditionals(x.movedim(1, -1)[:, rows, columns])
            parts = [given.logits, given.means, given.log_scales]
        parts = [part.movedim(-2, 1)[:, channels] for part in parts]
        return DiscretizedLogisticMixture(*parts, levels=self.levels)

    def conditional_parameters(self, parameters: Tensor, x: Tensor) -> Tensor:
        given = self.conditionals(parameters, x)  # in colour, the channels of a pixel meet only here
        return torch.cat((given.logits, given.means, given.log_scales), -1).movedim(-1, 1)

    def log_prob(self, parameters: Tensor, levels: Tensor) -> Tensor:
        mixture, levels = self.mixture(parameters.movedim(1, -1)), levels.movedim(1, -1)
        return mixture.log_prob(levels[..., 0] if self.image_channels == 1 else levels).flatten(1).sum(1)

    def stepper(self, wave: Wavefront) -> "MixtureStep":
        return MixtureStep(self)


class MixtureStep(HeadStep):
    """`MixtureHead.forward` for one pixel, whose channels then follow from its parameters."""

    def __init__(self, head: MixtureHead):
        self.head, self.output = head, PixelStep(head)
        self.parameters: Tensor | None = None  # of the pixel, [N, parameters]
        self.earlier: list[Tensor] = []  # the levels of its channels so far, each [N]

    def __call__(self, front: Front, h: Tensor) -> DiscretizedLogisticMixture:
        if front.channel == 0:
            self.parameters, self.earlier = self.output(nn.functional.elu(h)), []
        mixture = self.head.mixture(self.parameters)
        if self.head.image_channels == 1:
            return mixture
        missing = [self.parameters.new_zeros(len(h))] * (3 - front.channel)  # which do not matter
        given = mixture.conditionals(torch.stack([*self.earlier, *missing], -1))
        parts = (part[:, front.channel] for part in (given.logits, given.means, given.log_scales))
        return DiscretizedLogisticMixture(*parts, levels=self.head.levels)

    def put(self, front: Front, levels: Tensor) -> None:
        self.earlier.append(levels.to(self.parameters))
