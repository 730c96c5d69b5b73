"""What a network's output means: `Categorical`, `categorical_log_prob` and `DiscretizedLogisticMixture`.

References:
    van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel Recurrent Neural Networks", 2016, section 2.2,
    https://arxiv.org/abs/1601.06759
    Salimans, Karpathy, Chen, Kingma, "PixelCNN++", 2017, sections 2.1-2.2, https://arxiv.org/abs/1701.05517
"""

from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions.utils import lazy_property
from torch.nn import functional as F

from .errors import require

FAR = 1e30  # beyond any mean, and still a number: its gradient is 0
ROWS = 1024  # values that are scored together: 1 MB of logits of 256 levels, which stays in a core's cache


class Categorical(td.Categorical):
    """A probability for every level of a value, without any notion of nearness between levels.

    Arguments:
        logits: `[..., levels]`, any real numbers; a softmax over the last axis gives the probabilities.

    References:
        van den Oord et al. 2016, section 2.2 ("Pixels as Discrete Variables").

    Example:
        >>> import torch
        >>> Categorical(logits=torch.zeros(2, 4)).pmf()[0]
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """

    def __init__(self, logits: Tensor):
        # The parent would normalise the logits here. They are many, and a sampler never asks for them.
        self._param, self._num_events = logits, logits.shape[-1]
        td.Distribution.__init__(self, logits.shape[:-1], validate_args=False)

    @lazy_property
    def logits(self) -> Tensor:
        return self._param.log_softmax(-1)

    @lazy_property
    def probs(self) -> Tensor:
        return self._param.softmax(-1)

    def pmf(self) -> Tensor:
        """Gives the probability of every level, `[..., levels]`, summing to 1."""
        return self._param.softmax(-1)


def categorical_log_prob(logits: Tensor, levels: Tensor) -> Tensor:
    """Gives the log-probability of one level per row, without a second copy of the logits.

    The same numbers and gradients as `-F.cross_entropy(logits, levels, reduction="none")`. That keeps the
    normalised logits for the backward pass and fills two more tensors of their size there; on a CPU this
    traffic, not arithmetic, is the cost of a softmax over 256 levels. Here a few rows at a time are
    normalised while they are in the cache, and once more in the backward pass.

    Arguments:
        logits: `[N, levels]`.
        levels: int64 `[N]`, values in `[0, levels)`.

    Returns:
        nats `[N]`, at most 0.

    Example:
        >>> categorical_log_prob(torch.zeros(2, 4), torch.tensor([0, 3]))
        tensor([-1.3863, -1.3863])
    """
    return _CategoricalLogProb.apply(logits, levels)


class _CategoricalLogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, levels: Tensor) -> Tensor:
        ctx.save_for_backward(logits, levels)
        log_prob = logits.new_empty(len(logits))
        for row, level, out in _in_parts(logits, levels, log_prob, levels=logits.shape[1]):
            out.copy_(row.log_softmax(1).gather(1, level[:, None])[:, 0])
        return log_prob

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        logits, levels = ctx.saved_tensors
        grad_logits = torch.empty_like(logits)
        for row, level, weight, out in _in_parts(logits, levels, grad, grad_logits, levels=logits.shape[1]):
            # one-hot minus pmf
            torch.softmax(row, 1, out=out).mul_(-weight[:, None])
            out.scatter_add_(1, level[:, None], weight[:, None])
        return grad_logits, None


def _in_parts(*tensors: Tensor, levels: int, most: int = ROWS) -> Iterable[tuple[Tensor, ...]]:
    """A few rows of each at a time on a CPU, fewer of more than 256 levels; a GPU, which has no such cache, takes all.

    Arguments:
        tensors: each `[rows, ...]`.
        levels: how many numbers a row leads to.
        most: how many rows of 256 levels.
    """
    rows = max(1, min(most, most * 256 // levels))
    if len(tensors[0]) <= rows or not tensors[0].is_cpu:
        return [tensors]
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)


@cache
def _edges(levels: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The edges of the levels' bins, `[levels + 1]`, and what rounding to `dtype` took from them.

    Two bins must share an edge to the last bit, or mass is lost between them; and the narrowest logistic is
    a thousand times steeper than 1, so an edge must be known a thousand times better than float32 holds it.
    The lowest and the highest level own the tails, so the outermost edges are as good as infinite.
    """
    numbers_on = "cpu" if device.type == "mps" else device  # which has no float64
    with torch.inference_mode(False):  # kept for any use
        exact = (torch.arange(levels + 1, dtype=torch.float64, device=numbers_on) - 0.5) * (2 / (levels - 1)) - 1
        exact[:1].fill_(-FAR)  # `exact[0] = -FAR` would bring the number from the CPU, which waits for the GPU
        exact[-1:].fill_(FAR)
        edge = exact.to(dtype)
        return edge.to(device), (exact - edge).to(device, dtype)


class DiscretizedLogisticMixture(td.Distribution):
    """A mixture of logistic distributions on the image scaled to [-1, 1], read off in bins of one level.

    A level's probability is the mass that the mixture puts between the middles to its two neighbours. The
    lowest and the highest level own the tails, so the levels' probabilities sum to 1. With `coefficients`
    it is the joint distribution of the three channels of a pixel: the component is drawn once for all of
    them, and the means of G and B move with the channels before.

    Everything is computed in float32 or better, and for any finite parameters: log-scales beyond -7 and 7
    and means beyond -10,000 and 10,000 count as these.

    Arguments:
        logits: unnormalised log-weights of the M components, `[..., M]`.
        means: `[..., M]`; with coefficients `[..., 3, M]`.
        log_scales: natural logarithms of the scales, shaped like `means`.
        coefficients: how much R adds to the mean of G, R to that of B, and G to that of B, `[..., 3, M]`.
        levels: number of levels, at least 2; level v lies at 2 v / (levels - 1) - 1.

    Raises:
        ValueError: for shapes that do not belong together, or fewer than 2 levels.

    References:
        Salimans et al. 2017, equation 2 and section 2.2.

    Example:
        >>> import torch
        >>> pixel = DiscretizedLogisticMixture(torch.zeros(2), torch.tensor([-1.0, 0.2]), torch.tensor([-3.0, -2.0]))
        >>> pixel.pmf().shape, round(float(pixel.pmf().sum()), 5)
        (torch.Size([256]), 1.0)
        >>> bool(torch.isclose(pixel.log_prob(torch.tensor(150)), pixel.pmf()[150].log()))
        True
    """

    arg_constraints = {}  # noqa: RUF012 (the parent's name for it)
    LARGEST_LOG_SCALE = 7.0
    LARGEST_MEAN = 1e4

    def __init__(
        self,
        logits: Tensor,
        means: Tensor,
        log_scales: Tensor,
        coefficients: Tensor | None = None,
        levels: int = 256,
    ):
        require(levels >= 2, f"levels is {levels}: give at least 2.")
        given = [tuple(t.shape) for t in (logits, means, log_scales, coefficients) if t is not None]
        batch, components = given[0][:-1], given[0][-1:]
        event = () if coefficients is None else (3,)
        if not components or any(shape != batch + event + components for shape in given[1:]):
            wanted = "all three [..., M]" if coefficients is None else "[..., M], then three times [..., 3, M]"
            raise ValueError(f"logits, means, log_scales (and coefficients) have shapes {given}: give {wanted}.")
        dtype = torch.promote_types(means.dtype, torch.float32)
        self.levels = levels
        self._edges = _edges(levels, dtype, means.device)
        self.logits = logits.to(dtype).log_softmax(-1)
        self.means = means.to(dtype).clamp(-self.LARGEST_MEAN, self.LARGEST_MEAN)
        self.log_scales = log_scales.to(dtype).clamp(-self.LARGEST_LOG_SCALE, self.LARGEST_LOG_SCALE)
        self.coefficients = coefficients
        if coefficients is not None:
            self.coefficients = coefficients.to(dtype).clamp(-self.LARGEST_MEAN, self.LARGEST_MEAN)
        super().__init__(batch, event, validate_args=False)

    @property
    def support(self) -> td.constraints.Constraint:
        values = td.constraints.integer_interval(0, self.levels - 1)
        return td.constraints.independent(values, 1) if self.event_shape else values

    def log_prob(self, value: Tensor) -> Tensor:
        """Gives the log-probability of levels, or of whole pixels of three.

        Arguments:
            value: integers in `[0, levels)`, broadcastable to `[...]`, with coefficients to `[..., 3]`.

        Returns:
            nats `[...]`, at most 0.
        """
        value = self._checked(value)
        bins = self._log_bins(value, self._means_given(value))
        if self.event_shape:
            bins = bins.sum(-2)
        return (self.logits + bins).logsumexp(-1).clamp(max=0)

    def conditionals(self, value: Tensor) -> "DiscretizedLogisticMixture":
        """Gives each channel's distribution given the channels before it: mixtures without coefficients.

        The earlier channels say which component they are likely to come from, so the weights change with them.

        Arguments:
            value: integers `[..., 3]`; the last channel does not matter.

        Returns:
            a mixture of batch shape `[..., 3]`.

        Example:
            >>> zeros = torch.zeros(3, 2)
            >>> pixel = DiscretizedLogisticMixture(zeros[0], zeros, zeros, zeros, levels=4)
            >>> levels = torch.tensor([0, 3, 1])
            >>> bool(torch.isclose(pixel.conditionals(levels).log_prob(levels).sum(), pixel.log_prob(levels)))
            True
        """
        require(self.event_shape, "a mixture without coefficients has one channel: it is its own conditional.")
        value = self._checked(value)
        means = self._means_given(value)
        seen = self._log_bins(value, means).cumsum(-2)  # what R, and R with G, say of the components
        logits = self.logits.unsqueeze(-2) + F.pad(seen[..., :-1, :], (0, 0, 1, 0))
        return DiscretizedLogisticMixture(logits, means, self.log_scales.expand_as(means), levels=self.levels)

    def pmf(self) -> Tensor:
        """Gives the probability of every level, `[..., levels]`, summing to 1; not for whole pixels of three."""
        self._refuse_pixels("pmf")
        weights, means, log_scales = (
            t if t.dim() == 2 else t.reshape(-1, t.shape[-1]) for t in (self.logits.exp(), self.means, self.log_scales)
        )
        # `[rows, M, levels]` is to stay in the cache.
        parts = _in_parts(weights, means, log_scales, levels=self.levels, most=ROWS // 4)
        pmf = [torch.bmm(weight[:, None], self._bins(mean, log_scale)) for weight, mean, log_scale in parts]
        pmf = pmf[0] if len(pmf) == 1 else torch.cat(pmf)
        return pmf.view(*self.batch_shape, self.levels)

    @property
    def mean(self) -> Tensor:
        """The expected level `[...]`, a real number in [0, levels - 1]; not for whole pixels of three."""
        self._refuse_pixels("mean")
        return self.pmf() @ torch.arange(self.levels, dtype=self.means.dtype, device=self.means.device)

    @torch.no_grad()
    def sample(self, sample_shape: tuple[int, ...] | torch.Size = ()) -> Tensor:
        """Draws a component, a logistic number from it, and takes the level that it falls on.

        Arguments:
            sample_shape: how many, in front of the batch shape.

        Returns:
            int64 levels `[*sample_shape, ...]`, with coefficients `[*sample_shape, ..., 3]`.
        """
        shape = self._extended_shape(sample_shape)
        component = td.Categorical(logits=self.logits).sample(sample_shape)[..., None]
        if self.event_shape:
            component = component.unsqueeze(-2).expand(*shape, 1)

        def chosen(parameter: Tensor) -> Tensor:
            parameter = parameter.expand(*component.shape[:-1], -1)
            return parameter.gather(-1, component)[..., 0].double()

        means, scales = chosen(self.means), chosen(self.log_scales).exp()
        noise = scales * torch.rand(shape, dtype=torch.float64, device=means.device).logit(eps=1e-16)
        if not self.event_shape:
            return self._level_of(means + noise)
        red_to_green, red_to_blue, green_to_blue = chosen(self.coefficients).unbind(-1)
        red, green, blue = (means + noise).unbind(-1)
        red = self._level_of(red)  # later channels see levels, as the likelihood does, never raw numbers
        green = self._level_of(green + red_to_green * self._place(red))
        blue = self._level_of(blue + red_to_blue * self._place(red) + green_to_blue * self._place(green))
        return torch.stack((red, green, blue), -1)

    # -- what happens inside ------------------------------------------------------------------------

    def _checked(self, value: Tensor) -> Tensor:
        own = value.shape[value.dim() - len(self.event_shape) :]
        require(own == self.event_shape, f"value has shape {tuple(value.shape)}: its last axis must hold R, G and B.")
        asked = value.is_cpu and value.numel() and not torch.compiler.is_compiling()  # asking a GPU would stop it
        if asked and not self._on_the_grid(value):
            raise ValueError(
                f"value runs from {value.min()} to {value.max()} in {value.dtype}: give whole numbers in "
                f"0 … {self.levels - 1}."
            )
        return value.to(self.means)

    def _on_the_grid(self, value: Tensor) -> bool:
        whole = not value.is_floating_point() or bool((value == value.round()).all())
        return whole and 0 <= int(value.min()) <= int(value.max()) < self.levels

    def _refuse_pixels(self, name: str) -> None:
        require(not self.event_shape, f"{name} is for single channels: ask .conditionals(value).{name}.")

    def _place(self, level: Tensor) -> Tensor:
        """Where a level lies on the scale from -1 to 1."""
        return level * (2 / (self.levels - 1)) - 1

    def _level_of(self, x: Tensor) -> Tensor:
        return ((x + 1) * ((self.levels - 1) / 2)).round().clamp(0, self.levels - 1).long()

    def _means_given(self, value: Tensor) -> Tensor:
        """The means `[..., 3, M]`, moved by the channels before."""
        if not self.event_shape:
            return self.means
        red, green = (self._place(value[..., channel, None]) for channel in (0, 1))
        red_to_green, red_to_blue, green_to_blue = self.coefficients.unbind(-2)
        to_green, to_blue = red * red_to_green, red * red_to_blue + green * green_to_blue
        return self.means + torch.stack((torch.zeros_like(to_green), to_green, to_blue), -2)

    def _log_bins(self, value: Tensor, means: Tensor) -> Tensor:
        """The log-mass that each component puts on a level, `[..., M]`, without a difference of near numbers."""
        value = value[..., None]
        sharpness = (-self.log_scales).exp()
        edge, rest = self._edges
        below, above = ((edge[k] - means + rest[k]) * sharpness for k in (value.long(), value.long() + 1))
        # sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - e^(a - b)), and b - a is the same for all bins
        width = torch.log(-torch.expm1(-2 / (self.levels - 1) * sharpness))
        lowest, highest = value == 0, value == self.levels - 1
        return F.logsigmoid(above) + F.logsigmoid(-below) + width.masked_fill(lowest | highest, 0)

    def _bins(self, means: Tensor, log_scales: Tensor) -> Tensor:
        """The mass that each component puts on every level, `[rows, M, levels]`."""
        sharpness = (-log_scales).exp()[..., None]
        edge, rest = self._edges
        z = (edge - means[..., None] + rest) * sharpness
        bins = z[..., 1:].sigmoid() * (-z[..., :-1]).sigmoid()
        bins[..., 1:-1].mul_(-torch.expm1(-2 / (self.levels - 1) * sharpness))
        return bins
