"""What a network's output means: the distribution of each value given the earlier ones."""

from torch import Tensor
from torch import distributions as td


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
        super().__init__(logits=logits, validate_args=False)

    def pmf(self) -> Tensor:
        """Gives the probability of every level, `[..., levels]`, summing to 1."""
        return self.probs
