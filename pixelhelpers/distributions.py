"""What a network's output means: the distribution of each value given the earlier ones."""

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions.utils import lazy_property

ROWS = 1024  # values that are scored together: 1 MB of logits, which stays in a core's cache


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
        return self.probs


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
        for row, level, out in _in_parts(logits, levels, log_prob):
            out.copy_(row.log_softmax(1).gather(1, level[:, None])[:, 0])
        return log_prob

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        logits, levels = ctx.saved_tensors
        grad_logits = torch.empty_like(logits)
        for row, level, weight, out in _in_parts(logits, levels, grad, grad_logits):  # one-hot minus pmf
            torch.softmax(row, 1, out=out).mul_(-weight[:, None])
            out.scatter_add_(1, level[:, None], weight[:, None])
        return grad_logits, None


def _in_parts(*tensors: Tensor):
    """A few rows of each at a time on a CPU; a GPU, which has no such cache, takes all at once."""
    rows = ROWS if tensors[0].is_cpu else max(1, len(tensors[0]))
    return zip(*(tensor.split(rows) for tensor in tensors), strict=True)
