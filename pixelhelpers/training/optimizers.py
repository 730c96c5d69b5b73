"""How weights are updated: `make_optimizer` by name, for which `hidden_kernels` and `MuonWithAdam`.

Muon replaces the update of a matrix by the nearest one whose singular values are all about 1, so that a step moves
all directions alike, not only those few that the gradient is loudest about. A convolution's kernel is a matrix, too:
one row per output feature, one column per input feature and tap.

References:
    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
    https://kellerjordan.github.io/posts/muon/
    Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015, https://arxiv.org/abs/1412.6980
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd as AnyConv
from torch.optim import AdamW, Muon, Optimizer

from ..errors import require
from ..models.base import AutoregressiveModel

OPTIMIZERS = ("adam", "muon")
REST = 0.3  # the rate of what Adam updates beside Muon, as a share of Muon's
MOMENTUM = 0.9  # of Muon; PyTorch's 0.95 learned less from a few thousand images

MakesOptimizer = Callable[[list[tuple[str, nn.Parameter]]], Optimizer]


def make_optimizer(
    model: AutoregressiveModel, optimizer: str | MakesOptimizer, lr: float | None, weight_decay: float = 0.0
) -> Optimizer:
    """Makes the optimiser of a model's weights, on the device where they are.

    Arguments:
        model: the model.
        optimizer: "adam"; "muon", for which see `MuonWithAdam`; or a function that takes the list of the model's
            (name, parameter) pairs, as PyTorch's own optimisers do, and gives an optimiser.
        lr: the highest learning rate; None with a function, which sets its own.
        weight_decay: decoupled weight decay; 0 with a function, which sets its own.

    Raises:
        ValueError: for another name, or for parameters that are not the model's.
        TypeError: for a function that gives something else.

    Example:
        >>> import pixelhelpers as ph
        >>> adam = make_optimizer(ph.PixelCNN(hidden=8, blocks=1), "adam", lr=1e-3)
        >>> type(adam).__name__, adam.param_groups[0]["lr"]
        ('AdamW', 0.001)
    """
    if callable(optimizer):
        made = optimizer(list(model.named_parameters()))
        require(
            isinstance(made, Optimizer),
            f"optimizer gave a {type(made).__name__}: it must give a torch.optim.Optimizer.",
            TypeError,
        )
        own = set(model.parameters())
        require(
            all(weight in own for group in made.param_groups for weight in group["params"]),
            "optimizer holds parameters that are not the model's: make it from the list that it is given.",
        )
        return made
    require(optimizer in OPTIMIZERS, f"optimizer is {optimizer!r}: give one of {OPTIMIZERS}, or a function.")
    kernels = hidden_kernels(model) if optimizer == "muon" else {}
    if kernels:
        return MuonWithAdam(
            kernels, [weight for weight in model.parameters() if weight not in kernels], lr, weight_decay
        )
    # Fused where it exists: one pass over the weights instead of one per arithmetic operation.
    lr = lr if optimizer == "adam" else REST * lr
    return AdamW(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)


def hidden_kernels(model: AutoregressiveModel) -> dict[nn.Parameter, Tensor | None]:
    """Finds the matrices between features and features, with their masks (None where there is none).

    These are the kernels of convolutions and linear layers, but for the layers that read or write pixels
    (`model.pixel_layers`). Biases, embeddings, positions and kernels with a single row or column are not among them.

    Example:
        >>> import pixelhelpers as ph
        >>> [tuple(kernel.shape) for kernel in hidden_kernels(ph.PixelCNN(hidden=8, blocks=1))]
        [(4, 8, 1, 1), (4, 4, 3, 3), (8, 4, 1, 1), (8, 8, 1, 1)]
    """
    outer = {weight for layer in model.pixel_layers() for weight in layer.parameters()}
    return {
        layer.weight: getattr(layer, "mask", None)
        for layer in model.modules()
        if isinstance(layer, AnyConv | nn.Linear)
        and isinstance(layer.weight, nn.Parameter)
        and layer.weight not in outer
        and min(len(layer.weight), layer.weight[0].numel()) > 1
    }


def _as_matrix(kernel: Tensor, like: Tensor) -> Tensor:
    """Sees a kernel `[out, in, k, k]` as `[out, in * k * k]`, columns in the order in which `like` lies in memory."""
    axes = sorted(range(1, like.dim()), key=like.stride, reverse=True)
    return kernel.permute(0, *axes).flatten(1)


class MuonWithAdam(Optimizer):
    """PyTorch's Muon for kernels, seen as matrices, and its Adam for all other weights.

    A masked tap has a gradient of 0. It is zero from the first step on, and adds nothing to the norm by which Muon
    divides: its column of the update is zero, or is made so.

    Arguments:
        kernels: parameters `[out, in, ...]`, each with its mask or None.
        others: all other parameters.
        lr: Muon's learning rate; Adam's is `REST` times that.
        weight_decay: decoupled weight decay of both.

    References:
        Jordan et al. 2024.

    Example:
        >>> layer = nn.Conv2d(4, 8, 3, bias=False)
        >>> optimizer, before = MuonWithAdam({layer.weight: None}, [], lr=1.0), layer.weight.detach().clone()
        >>> layer(torch.randn(2, 4, 9, 9)).square().sum().backward()
        >>> optimizer.step()
        >>> update = (before - layer.weight.detach()).flatten(1)
        >>> bool(torch.linalg.svdvals(update).sub(1).abs().max() < 0.5)
        True
    """

    def __init__(
        self,
        kernels: dict[nn.Parameter, Tensor | None],
        others: list[nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
    ):
        groups = [{"params": list(kernels), "lr": lr}, {"params": others, "lr": REST * lr}]
        super().__init__(groups, {"weight_decay": weight_decay})
        self.masks = {kernel: mask for kernel, mask in kernels.items() if mask is not None}
        # The matrices share the kernels' memory.
        self.matrices = [nn.Parameter(_as_matrix(kernel.detach(), kernel)) for kernel in kernels]
        self.parts = [Muon(self.matrices, lr, weight_decay, MOMENTUM)]
        if others:
            self.parts.append(AdamW(others, REST * lr, weight_decay=weight_decay, fused=True))
        self._share_state()

    def _share_state(self) -> None:
        """Makes what Muon and Adam remember this optimiser's own: what `state_dict` gives."""
        for kernel, matrix in zip(self.param_groups[0]["params"], self.matrices, strict=True):
            self.parts[0].state[matrix] = self.state[kernel]
        for other in self.param_groups[1]["params"]:
            self.parts[1].state[other] = self.state[other]

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self._share_state()

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Updates all weights that have a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for kernel, matrix in zip(self.param_groups[0]["params"], self.matrices, strict=True):
            matrix.grad = None if kernel.grad is None else _as_matrix(kernel.grad, kernel)
        for part, group in zip(self.parts, self.param_groups, strict=False):
            part.param_groups[0]["lr"] = group["lr"]
            part.step()
        for kernel, mask in self.masks.items():
            kernel.mul_(mask)
        return loss
