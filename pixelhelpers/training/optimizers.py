"""How weights are updated: `make_optimizer` by name, for which `hidden_kernels` and `MuonWithAdam`.

Muon replaces the update of a matrix by the nearest one whose singular values are all about 1, so that a step moves
all directions alike, not only those few that the gradient is loudest about. A convolution's kernel is a matrix, too:
one row per output feature, one column per input feature and tap.

References:
    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
    https://kellerjordan.github.io/posts/muon/
    Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015, https://arxiv.org/abs/1412.6980
"""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd as AnyConv
from torch.optim import AdamW, Muon, Optimizer

from ..errors import require
from ..models.base import AutoregressiveModel
from ..models.own import OwnModule

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
        ValueError: for another name, for "muon" where there is no hidden kernel, or for an optimiser of other
            parameters, without a rate, or that needs more than gradients.
        TypeError: for something that is neither a name nor such a function.

    Example:
        >>> import pixelhelpers as ph
        >>> adam = make_optimizer(ph.PixelCNN(hidden=8, blocks=1), "adam", lr=1e-3)
        >>> type(adam).__name__, adam.param_groups[0]["lr"]
        ('AdamW', 0.001)
    """
    if isinstance(optimizer, str):
        return _by_name(model, optimizer, lr, weight_decay)
    example = "functools.partial(torch.optim.SGD, lr=0.1)"
    require(
        callable(optimizer),
        f"optimizer is an object of {type(optimizer).__name__}: give one of {OPTIMIZERS}, or a function that makes an "
        f"optimizer, such as {example}.",
        TypeError,
    )
    named = (model.module if isinstance(model, OwnModule) else model).named_parameters()  # by the names that they know
    made = optimizer(list(named))
    kind, own = type(made).__name__, set(model.parameters())
    require(isinstance(made, Optimizer), f"optimizer gave a {kind}: it must give a torch.optim.Optimizer.", TypeError)
    require(
        all(weight in own for group in made.param_groups for weight in group["params"]),
        "optimizer holds parameters that are not the model's: make it from the list that it is given.",
    )
    require(
        all(isinstance(group.get("lr"), float | int | Tensor) for group in made.param_groups),
        f"optimizer gave {kind} without a learning rate lr: give it one, as in {example}.",
    )
    closure = inspect.signature(made.step).parameters.get("closure")
    require(
        closure is None or closure.default is not inspect.Parameter.empty,
        f"optimizer gave {kind}, which computes losses by itself: give one that needs gradients only.",
    )
    require(not hasattr(made, "eval"), f"optimizer gave {kind}, which changes weights between training and scoring.")
    return made


def _by_name(model: AutoregressiveModel, optimizer: str, lr: float, weight_decay: float) -> Optimizer:
    require(optimizer in OPTIMIZERS, f"optimizer is {optimizer!r}: give one of {OPTIMIZERS}, or a function.")
    if optimizer == "adam":
        # Fused where it exists: one pass over the weights instead of one per arithmetic operation.
        return AdamW(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
    kernels = hidden_kernels(model)
    require(
        kernels,
        "optimizer is 'muon', but the model has no kernel from features to features that could learn: give 'adam'.",
    )
    return MuonWithAdam(kernels, [weight for weight in model.parameters() if weight not in kernels], lr, weight_decay)


def hidden_kernels(model: AutoregressiveModel) -> dict[nn.Parameter, Tensor | None]:
    """Finds the matrices from features to features that are to learn, with their masks (None where there is none).

    These are the weights of convolutions and linear layers, but for the layers that read or write pixels
    (`model.pixel_layers`). Biases, embeddings, positions, kernels with a single row or column and those of grouped
    convolutions are not among them. A mask is a layer's `mask` of zeros and ones.

    Example:
        >>> import pixelhelpers as ph
        >>> [tuple(kernel.shape) for kernel in hidden_kernels(ph.PixelCNN(hidden=8, blocks=1))]
        [(4, 8, 1, 1), (4, 4, 3, 3), (8, 4, 1, 1), (8, 8, 1, 1)]
    """
    outer = {weight for layer in model.pixel_layers() for weight in layer.parameters()}
    kernels: dict[nn.Parameter, Tensor | None] = {}
    for layer in model.modules():
        kernel = getattr(layer, "weight", None)
        if (
            isinstance(layer, AnyConv | nn.Linear)
            and isinstance(kernel, nn.Parameter)
            and kernel.requires_grad
            and kernel.is_floating_point()
            and kernel not in outer
            and getattr(layer, "groups", 1) == 1
            and min(len(kernel), kernel[0].numel()) > 1
        ):
            mask = _mask_of(layer)
            if kernel in kernels:  # two layers share it: what either needs is open
                mask = None if mask is None or kernels[kernel] is None else mask.logical_or(kernels[kernel])
            kernels[kernel] = mask
    return kernels


def _mask_of(layer: nn.Module) -> Tensor | None:
    """A layer's `mask`, if it is one: zeros and ones that fit the kernel."""
    mask, kernel = getattr(layer, "mask", None), layer.weight
    fits = (
        isinstance(mask, Tensor)
        and mask.dim() == kernel.dim()
        and all(side in (1, of_kernel) for side, of_kernel in zip(mask.shape, kernel.shape, strict=True))
        and bool(((mask == 0) | (mask == 1)).all())
        and bool((mask == 1).any())
    )
    return mask.detach() if fits else None


class MuonWithAdam(Optimizer):
    """PyTorch's Muon for kernels, seen as matrices, and its Adam for all other weights.

    A kernel `[out, in, k, k]` is the matrix `[out, in * k * k]` (that of a transposed convolution, `[in, out, k, k]`,
    is `[in, out * k * k]`). A masked tap is zero from the first step on. It has no part in the gradient, so it adds
    nothing to the norm by which Muon divides.

    Arguments:
        kernels: parameters with two axes or more, each with its mask or None.
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
        groups = [{"params": list(kernels), "lr": lr}]
        self.matrices = [nn.Parameter(kernel.detach().flatten(1)) for kernel in kernels]
        self.parts = [Muon(self.matrices, lr, weight_decay, MOMENTUM)]
        if others:
            groups.append({"params": others, "lr": REST * lr, "fused": True})
            self.parts.append(AdamW(others, REST * lr, weight_decay=weight_decay, fused=True))
        super().__init__(groups, {"weight_decay": weight_decay})
        self.masks = list(kernels.values())
        self._share_state()

    def _share_state(self) -> None:
        """Makes what Muon and Adam remember this optimiser's own: what `state_dict` gives."""
        for group, part in zip(self.param_groups, self.parts, strict=True):
            for own, weight in zip(group["params"], part.param_groups[0]["params"], strict=True):
                part.state[weight] = self.state[own]

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self._share_state()

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Updates all weights that have a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group, part in zip(self.param_groups, self.parts, strict=True):
            part.param_groups[0] |= {name: group[name] for name in ("lr", "weight_decay")}
        kernels = list(zip(self.param_groups[0]["params"], self.matrices, self.masks, strict=True))
        for kernel, matrix, mask in kernels:
            if kernel.grad is not None:
                matrix.data = kernel.flatten(1)  # a view, where memory allows
                matrix.grad = (kernel.grad if mask is None else kernel.grad * mask).flatten(1)
        for part in self.parts:
            part.step()
        for kernel, matrix, mask in kernels:
            if kernel.grad is not None:
                if matrix.data_ptr() != kernel.data_ptr():  # it was a copy
                    kernel.copy_(matrix.view_as(kernel))
                if mask is not None:
                    kernel.mul_(mask)
                matrix.grad = None
        return loss
