"""Checks of notebook 02: the residual block, the whole network, how many blocks see an image, far sight for little."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import MaskedConv2d
from ..models import ResidualBlock
from ..probes import CausalityError, check_causal, receptive_field
from .verdict import Mistake, Unsolved, ask, exercise

HIDDEN = 8
SIDE = 7
OTHERS = (F.gelu, F.leaky_relu, F.elu, F.silu, F.softplus, F.selu, torch.tanh, torch.sigmoid)


@exercise
def check_residual_block(answer: type[nn.Module]) -> str:
    """Checks a learner's residual block: squeeze, look around, widen, add the input.

    Arguments:
        answer: the class; `answer(hidden)` makes a module that keeps the shape `[N, hidden, H, W]`.

    Example:
        >>> from pixelhelpers import ResidualBlock
        >>> check_residual_block(ResidualBlock)
        ✓ Squeeze, look, widen, add: 9,216 live weights at 64 features, a plain 3×3 has 20,480.
        >>> check_residual_block(lambda hidden: torch.nn.Identity())
        ✗ Not yet. The block has no convolution: make three ph.MaskedConv2d in __init__.
    """
    if isinstance(answer, nn.Module):
        raise Mistake("Give the class itself, not an object made from it.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = answer(HIDDEN)
        x = torch.randn(4, HIDDEN, SIDE, SIDE, dtype=torch.float64)
    if not isinstance(block, nn.Module):
        raise Mistake("The block must be a torch.nn.Module.")
    block = block.double().eval()
    record = _record(block)
    given = x.clone()
    try:
        out = ask(block, given)
    except RuntimeError as error:
        raise Mistake(_why_shapes_clash(block, error)) from None
    calls = list(record)  # of this call: further ones follow
    if not calls:
        raise Mistake("The block has no convolution: make three ph.MaskedConv2d in __init__.")
    _shape_is_kept(out, x)
    _takes_no_mean(block)
    _is_causal(block, x)
    _adds_its_input(block, x, given, calls[-1][0])
    _has_the_widths([conv for conv, _ in calls])
    _has_a_relu_before_each(x, calls)
    _is_what_the_picture_says(block, x, [conv for conv, _ in calls])
    return "Squeeze, look, widen, add: 9,216 live weights at 64 features, a plain 3×3 has 20,480."


def _record(block: nn.Module) -> list[tuple[nn.Conv2d, Tensor]]:
    """Lists every convolution with its input, in the order of the last call."""
    calls: list[tuple[nn.Conv2d, Tensor]] = []
    block.register_forward_pre_hook(lambda module, inputs: calls.clear())
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda conv, inputs: calls.append((conv, inputs[0].detach().clone())))
    return calls


def _why_shapes_clash(block: nn.Module, error: RuntimeError) -> str:
    convs = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
    if convs and convs[0].in_channels != HIDDEN:
        return (
            f"The block was made with hidden = {HIDDEN}, but its first convolution takes {convs[0].in_channels} "
            "features: a number stands where the argument `hidden` should."
        )
    if convs and convs[-1].out_channels != HIDDEN:
        return (
            f"The last convolution gives {convs[-1].out_channels} features, but the input that "
            "is to be added has "
            f"{HIDDEN}: widen back before you add."
        )
    if any(conv.kernel_size[0] > 1 and conv.padding in (0, (0, 0)) for conv in convs):
        return "The 3×3 convolution shrinks the image: ph.MaskedConv2d pads it, others need padding=1."
    return f"Shapes do not fit: {error}."


def _shape_is_kept(out: Tensor, x: Tensor) -> None:
    if not isinstance(out, Tensor):
        raise Mistake(f"forward returned {type(out).__name__}: return a tensor.")
    if out.shape == x.shape:
        return
    if out.dim() == 4 and out.shape[1] == 2 * HIDDEN:
        raise Mistake("The input was put beside the output (torch.cat): add it, so that the width stays.")
    if out.dim() == 4 and out.shape[1] == HIDDEN // 2:
        raise Mistake("The block ends at half the features: a third convolution must widen back.")
    raise Mistake(f"The block maps {tuple(x.shape)} to {tuple(out.shape)}: the shape must stay as it is.")


def _takes_no_mean(block: nn.Module) -> None:
    for module in block.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm):
            raise Mistake(
                f"There is a {type(module).__name__} inside. Its mean runs over pixels that are not drawn yet (in "
                "BatchNorm, while training): it leaks. PixelCNN has no normalisation."
            )


def _is_causal(block: nn.Module, x: Tensor) -> None:
    """Looks at which pixels move what the block adds to the middle one."""
    middle = SIDE // 2
    seen = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    x = x.clone().requires_grad_()
    added = block(x.clone()) - x
    for feature in range(HIDDEN):
        (gradient,) = torch.autograd.grad(added[:, feature, middle, middle].sum(), x, retain_graph=True)
        seen |= (gradient.abs() > 1e-12).any(0).any(0)
    kinds = [getattr(module, "mask_type", "B") for module in block.modules()]
    if not seen.any() and "A" not in kinds:
        raise Mistake(
            "No gradient comes back through what the block adds, so its convolutions would never learn: "
            "`.detach()`, `.data` or `no_grad` cuts it off."
        )
    if seen[middle + 1 :].any() or seen[middle, middle + 1 :].any():
        raise Mistake(
            "The block leaks: a pixel sees pixels to its right or below. A plain nn.Conv2d does "
            "that; use "
            'ph.MaskedConv2d("B", …).'
        )
    if "A" in kinds or not seen[middle, middle]:
        raise Mistake(
            "A convolution inside is of type A. Features are made of earlier pixels already, and "
            "type A hides the "
            "newest of them: all convolutions after the stem are of type B."
        )


def _later_changed(x: Tensor) -> Tensor:
    """Other values in the lower rows."""
    return torch.cat([x[:, :, : SIDE // 2], 3 * x[:, :, SIDE // 2 :] + 1], 2)


def _early_outputs_in_training(block: nn.Module, x: Tensor) -> Tensor:
    """The upper rows that come out; dropout, if there is any, drops the same each time."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        out = block.train()(x.clone())
    block.eval()
    return out[:, :, : SIDE // 2]


def _adds_its_input(block: nn.Module, x: Tensor, given: Tensor, last: nn.Conv2d) -> None:
    if not torch.equal(given, x):
        raise Mistake(
            "The ReLU overwrote the input before it was added (inplace=True, or relu_): the skip "
            "then carries "
            "relu(x). Use F.relu."
        )
    before = {name: value.clone() for name, value in block.state_dict().items()}
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        out = block(x.clone())
        if last.bias is not None:
            last.bias.fill_(-1000)
        lowered = block(x.clone())
    block.load_state_dict(before)
    if torch.allclose(out, x):
        if last.bias is not None and torch.allclose(lowered, x):
            raise Mistake("A ReLU comes after the last convolution: it can then only add, never take away.")
        return
    if torch.allclose(out, 2 * x):
        raise Mistake("The input is added twice: with all weights zero the block returns 2x.")
    if not out.any():
        raise Mistake("The skip is missing: with all weights zero the block returns 0, not its input.")
    if torch.allclose(out, x.relu()):
        if lowered.min() >= 0:
            raise Mistake(
                "A ReLU comes after the addition: it cuts the skip off wherever x is negative. "
                "The ReLUs stand before "
                "the convolutions, the sum stays as it is."
            )
        raise Mistake("The skip starts after the first ReLU: add x itself, not relu(x).")
    raise Mistake("With all weights zero the block must return its input unchanged; something else acts on the skip.")


def _has_the_widths(convs: list[nn.Conv2d]) -> None:
    if len(convs) != 3:
        raise Mistake(f"The block calls {len(convs)} convolutions: it takes three, 1×1, 3×3 and 1×1.")
    sizes = [conv.kernel_size[0] for conv in convs]
    half = HIDDEN // 2
    widths = [(conv.in_channels, conv.out_channels) for conv in convs]
    if sizes != [1, 3, 1]:
        shown = ", ".join(f"{size}×{size}" for size in sizes)
        raise Mistake(f"The kernels are {shown}, in the order of use: 1×1, 3×3, 1×1 is asked for.")
    if widths[1] == (HIDDEN, HIDDEN):
        raise Mistake(
            f"Nothing is squeezed: the 3×3 works on all {HIDDEN} features. The first 1×1 goes to "
            "hidden // 2, the last "
            "one back."
        )
    if widths != [(HIDDEN, half), (half, half), (half, HIDDEN)]:
        shown = ", ".join(f"{a} → {b}" for a, b in widths)
        raise Mistake(
            f"For hidden = {HIDDEN} the widths are {shown}: {HIDDEN} → {half}, {half} → {half}, "
            f"{half} → {HIDDEN} is asked for."
        )


def _has_a_relu_before_each(x: Tensor, calls: list[tuple[nn.Conv2d, Tensor]]) -> None:
    before = [x, *(conv(given) for conv, given in calls[:-1])]  # what each activation gets
    for activation in OTHERS:
        if any(torch.allclose(given, activation(h)) for h, (_, given) in zip(before, calls, strict=True)):
            raise Mistake(
                f"The picture asks for ReLU before each convolution; one gets its input from {_named(activation)}."
            )
    bare = [name for name, (_, x) in zip(("first", "second", "third"), calls, strict=True) if x.min() < 0]
    if len(bare) == 3:
        raise Mistake("There is no ReLU: without one, all blocks together are a single linear map of their input.")
    if bare:
        raise Mistake(f"A ReLU is missing before the {' and the '.join(bare)} convolution: it gets negative numbers.")


def _named(activation: Callable) -> str:
    return activation.__name__.replace("_", " ")


def _is_what_the_picture_says(block: nn.Module, x: Tensor, convs: list[nn.Conv2d]) -> None:
    """Compares output, training mode and gradients with those of the block that the picture shows."""
    squeeze, look, widen = convs
    x = x.clone().requires_grad_()
    added = widen(look(squeeze(x.relu()).relu()).relu())
    right, out = x + added, block(x)
    if not torch.allclose(out, right):
        factor = (((out - x) * added).sum() / added.square().sum()).item()
        if torch.allclose(out - x, factor * added):
            how = "subtracted from" if factor == -1 else f"multiplied by {factor:.3g} and added to"
            raise Mistake(f"What the convolutions give is {how} the input: the picture has a plain + there.")
        raise Mistake(
            "The convolutions, their ReLUs and the skip are there, but something else happens between them: follow "
            "the picture arrow by arrow."
        )
    if (_early_outputs_in_training(block, x) - _early_outputs_in_training(block, _later_changed(x))).any():
        raise Mistake(
            "Right in evaluation mode, but in training mode a pixel sees later ones: a mean over the image or the "
            "batch, as in batch normalisation."
        )
    score = torch.randn_like(right)
    (expected,) = torch.autograd.grad((right * score).sum(), x)
    (gradient,) = torch.autograd.grad((block.eval()(x) * score).sum(), x)
    if not torch.allclose(gradient, expected):
        raise Mistake(
            "The output is right, but the gradient does not come back along the skip: x is added without `.detach()`, "
            "since that free path is what the skip is for."
        )


# -- the whole network ----------------------------------------------------------------------------

TABLE = (
    ("image: integers 0 … 15", 1, 0),
    ("scaled to −1 … 1", 1, 0),
    ("stem", 24, 288),
    ("residual block 1", 24, 1296),
    ("residual block 2", 24, 1296),
    ("residual block 3", 24, 1296),
    ("ReLU, convolution", 32, 768),
    ("ReLU, convolution: logits", 16, 512),
)


class _Network(nn.Module):
    """What the table describes."""

    def __init__(self):
        super().__init__()
        self.stem = MaskedConv2d("A", 1, 24, 5)
        self.blocks = nn.Sequential(*(ResidualBlock(24) for _ in range(3)))
        self.first, self.second = MaskedConv2d("B", 24, 32, 1), MaskedConv2d("B", 32, 16, 1)

    def scaled(self, x: Tensor) -> Tensor:
        return x * (2 / 15) - 1

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(self.blocks(self.stem(self.scaled(x))).relu()).relu())


class _Variant(_Network):
    """The same with one mistake in how the layers are joined."""

    def __init__(self, scaled: Callable | None = None, stem: Callable | None = None, relus: str = "12"):
        super().__init__()
        self.scaled = scaled or self.scaled
        self.after_stem, self.relus = stem or (lambda h: h), relus

    def forward(self, x: Tensor) -> Tensor:
        h = self.blocks(self.after_stem(self.stem(self.scaled(x))))
        h = self.first(h.relu() if "1" in self.relus else h)
        return self.second(h.relu() if "2" in self.relus else h)


JOINTS: dict[str, Callable[[], _Variant]] = {
    "The image is not scaled: integers 0 … 15 go to the stem.": lambda: _Variant(lambda x: x.float()),
    "The image is scaled to 0 … 1: the table says −1 … 1.": lambda: _Variant(lambda x: x / 15),
    "The image is scaled as if it had 256 levels: 15 must become 1.": lambda: _Variant(lambda x: x / 127.5 - 1),
    "The image is divided by half of 16, so that the highest level, 15, does not become 1.": lambda: _Variant(
        lambda x: x / 8 - 1
    ),
    "The image is divided by 7, so that the highest level, 15, becomes more than 1.": lambda: _Variant(
        lambda x: x / 7 - 1
    ),
    "The image is scaled by its own darkest and brightest pixel: 0 must become −1 and 15 become 1, in every image.": (
        lambda: _Variant(lambda x: (x - x.amin()) / (x.amax() - x.amin()) * 2.0 - 1)
    ),
    "The scaled image became integers again, −1, 0 or 1.": lambda: _Variant(lambda x: (x / 7.5 - 1).int().float()),
    "A ReLU stands between stem and blocks. The table has none there; each block begins with its own.": (
        lambda: _Variant(stem=torch.relu)
    ),
    "There is no ReLU between the blocks and the first convolution of the head.": lambda: _Variant(relus="2"),
    "There is no ReLU between the two convolutions of the head: together they are one linear map.": lambda: _Variant(
        relus="1"
    ),
    "There is no ReLU in the head.": lambda: _Variant(relus=""),
}


@exercise
def check_network(answer: Callable[[], nn.Module]) -> str:
    """Checks a whole PixelCNN that was written from the table of shapes and live weights, `TABLE`.

    Arguments:
        answer: the class, called without arguments; its objects map integers `[N, 1, H, W]` from 0 to 15 to logits
            `[N, 16, H, W]`.

    Example:
        >>> from pixelhelpers import PixelCNN
        >>> check_network(PixelCNN)  # doctest: +ELLIPSIS
        ✗ Not yet. The last convolution gives 256 numbers per pixel: one for each of 16 levels is asked for.
    """
    if isinstance(answer, nn.Module):
        raise Mistake("Give the class itself, not an object made from it.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, reference = answer(), _Network()
        x = torch.randint(2, 12, (3, 1, SIDE, SIDE + 2), dtype=torch.uint8)  # neither black nor white
    if not isinstance(network, nn.Module):
        raise Mistake("Called without arguments, your class must give a torch.nn.Module.")
    network = network.eval()
    record = _record(network)
    given = x.clone()
    out = ask(network, given)
    if not torch.equal(given, x):
        raise Mistake("forward changed the images that it was given: make new ones.")
    convs = [conv for conv, _ in record]
    _has_the_layers(convs)
    _gives_logits(out, x)
    _takes_no_mean(network)
    targets = [module for module in reference.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        for conv, target in zip(convs, targets, strict=True):
            conv.weight.copy_(target.weight)
            conv.bias.copy_(target.bias)
    _is_joined(network, reference, x)
    return "All of it: every shape, every live weight, and the very logits of ours once it has the same weights."


def _live(conv: nn.Conv2d) -> int:
    mask = getattr(conv, "mask", torch.ones(()))
    return int(mask.expand_as(conv.weight).sum())


def _has_the_layers(convs: list[nn.Conv2d]) -> None:
    """Goes through the convolutions in the order of use."""
    if not convs:
        raise Mistake("The network has no convolution: make them from ph.MaskedConv2d in __init__.")
    last = convs[-1].out_channels
    if last != 16:
        raise Mistake(f"The last convolution gives {last} numbers per pixel: one for each of 16 levels is asked for.")
    stem = convs[0]
    if (stem.in_channels, stem.out_channels) != (1, 24):
        raise Mistake(f"The stem goes from {stem.in_channels} to {stem.out_channels} features: the table says 1 to 24.")
    if _live(stem) != 288:
        taps = _live(stem) // 24
        raise Mistake(
            f"Your stem has {_live(stem)} live weights, {taps} for each of 24 features; the table says 288. How many "
            "taps are that for each, and which kernel and type of mask has so many?"
        )
    if not hasattr(stem, "mask"):
        raise Mistake("The stem is a plain convolution: it needs a mask.")
    middle = [(conv.in_channels, conv.out_channels, conv.kernel_size[0]) for conv in convs[1:-2]]
    block = [(24, 12, 1), (12, 12, 3), (12, 24, 1)]
    if len(convs) < 3 or (convs[-2].in_channels, convs[-2].out_channels) != (24, 32):
        raise Mistake("The head has two convolutions: 24 features become 32, and these become 16 logits.")
    for conv, weights in zip(convs[-2:], (768, 512), strict=True):
        if conv.kernel_size != (1, 1):
            raise Mistake(
                f"One in the head is {conv.kernel_size[0]}×{conv.kernel_size[0]}: {weights} weights make a 1×1."
            )
        if _live(conv) != weights:
            raise Mistake("A convolution of the head is of type A: a 1×1 of type A sees nothing at all.")
    if middle[: len(block)] != block:
        raise Mistake(
            "Between stem and head the first convolutions are not those of a residual block of 24 features: 1×1 to 12, "
            f"3×3, 1×1 to 24. They are {', '.join(f'{k}×{k} from {a} to {b}' for a, b, k in middle[:3]) or 'missing'}."
        )
    if middle != 3 * block:
        raise Mistake(f"There are {len(middle) / 3:g} residual blocks; count them in the table.")
    for conv in convs[1:-2]:
        if not hasattr(conv, "mask") and conv.kernel_size != (1, 1):
            raise Mistake("A 3×3 in a block is a plain convolution: it sees later pixels. Each needs its mask.")
        if getattr(conv, "mask_type", "B") != "B":
            raise Mistake("A convolution in a block is of type A: only the first layer is.")


def _gives_logits(out: Any, x: Tensor) -> None:
    expected = (len(x), 16, *x.shape[2:])
    if not isinstance(out, Tensor) or out.shape != expected:
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        where = " The levels are on axis 1." if shape == (len(x), *x.shape[2:], 16) else ""
        raise Mistake(f"Images {tuple(x.shape)} became {shape}: logits {expected} are asked for.{where}")
    if torch.allclose(out.float().sum(1), torch.ones(()), atol=1e-3):
        raise Mistake(
            "The numbers of a pixel sum to 1: these are probabilities. Logits are asked for; the loss has the softmax."
        )
    if torch.allclose(out.float().logsumexp(1), torch.zeros(()), atol=1e-3):
        raise Mistake(
            "These are logarithms of probabilities. Leave log_softmax to the loss: the table ends with the convolution."
        )
    if out.dtype != torch.float32:
        raise Mistake(
            f"The logits are {out.dtype} although all weights are float32: something converts them on the way."
        )
    if out.min() >= 0:
        raise Mistake("No logit is negative: is there an activation after the last convolution?")


def _is_joined(network: nn.Module, reference: nn.Module, x: Tensor) -> None:
    """Compares logits and gradients with those of a network of the same weights."""
    out, right = network(x), reference(x)
    if not torch.allclose(out, right, atol=1e-4):
        factor = ((out * right).sum() / right.square().sum()).item()
        if torch.allclose(out, factor * right, atol=1e-4):
            raise Mistake(f"The logits are multiplied by {factor:.3g}: leave them as they are.")
        for words, make in JOINTS.items():
            variant = make()
            variant.load_state_dict(reference.state_dict())
            if torch.allclose(out, variant(x), atol=1e-4):
                raise Mistake(words)
        if not torch.allclose(network(x[1:]), out[1:], atol=1e-4):
            raise Mistake("The logits of an image depend on the others of its batch: each has only its own pixels.")
        if torch.allclose(out, reference(x.mT).mT, atol=1e-4):
            raise Mistake("Rows and columns are exchanged: the network reads the images column by column.")
        first = _first_that_differs(network, reference, x)
        if first is None:
            raise Mistake("Every convolution gets what it should; something is done to the logits after the last one.")
        if not _blocks_keep(network):
            raise Mistake("With all weights of the blocks at zero they must pass on what they get: the skip x + f(x).")
        raise Mistake(
            "All layers are there, but joined in another way. The first that gets something else than in ours is "
            f"{first}: look at what is done just before it."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for module in network.train().modules():
            module.train(not isinstance(module, nn.modules.dropout._DropoutNd))  # dropout may stay
        trained = network(x)
    if not torch.allclose(trained, right, atol=1e-4):
        raise Mistake(
            "Right in evaluation mode, but another network in train mode: the table has nothing that changes."
        )
    if not trained.requires_grad:
        raise Mistake(
            "The logits are right, but no gradient comes back from them: this network cannot learn (detach?)."
        )


def _first_that_differs(network: nn.Module, reference: nn.Module, x: Tensor) -> str | None:
    """Names the first convolution with another input than in the reference."""
    inputs = []
    for net in (network, reference):
        record = _record(net)
        net(x)
        inputs.append([given for _, given in record])
    blocks = [f"convolution {k} of block {block}" for block in (1, 2, 3) for k in (1, 2, 3)]
    names = ["the stem", *blocks, "the first convolution of the head", "the second convolution of the head"]
    for name, one, other in zip(names, *inputs, strict=True):
        if not torch.allclose(one, other, atol=1e-4):
            return name
    return None


def _blocks_keep(network: nn.Module) -> bool:
    """Whether what the stem gives reaches the head when all convolutions between them are zero."""
    record = _record(network)
    network(torch.zeros(1, 1, 5, 5, dtype=torch.uint8))
    convs = [conv for conv, _ in record]
    with torch.no_grad():
        for conv in convs[1:-2]:
            conv.weight.zero_()
            conv.bias.zero_()
    network(torch.zeros(1, 1, 5, 5, dtype=torch.uint8))
    return bool(record[-2][1].any())


# -- how far it sees ------------------------------------------------------------------------------


def _needed(rows: int, stem: int, kernel: int) -> int:
    return max(0, math.ceil((rows - 1 - stem // 2) / (kernel // 2)))


CASES = (
    (28, 7, 3),
    (32, 7, 3),
    (28, 3, 3),
    (4, 7, 3),
    (3, 7, 3),
    (28, 7, 5),
    (31, 7, 5),
    (64, 5, 7),
    (65, 11, 9),
)
MISCOUNTS: dict[str, Callable[[int, int, int], int]] = {
    "The first row lies rows - 1 above the last one, not rows.": lambda n, s, k: max(
        0, math.ceil((n - s // 2) / (k // 2))
    ),
    "The stem looks up too: it brings stem // 2 rows before the first block.": lambda n, s, k: math.ceil(
        (n - 1) / (k // 2)
    ),
    "You count whole kernels. Of a masked kernel only the half above its centre looks up: kernel // 2 rows.": (
        lambda n, s, k: max(0, math.ceil((n - 1 - s) / k))
    ),
    "That is the height of an unmasked window, which reaches as far down as up; here nothing below is seen.": (
        lambda n, s, k: max(0, math.ceil((n - s) / (k - 1)))
    ),
    "You round down: where the division leaves a rest, one more block is needed (math.ceil).": lambda n, s, k: max(
        0, (n - 1 - s // 2) // (k // 2)
    ),
    "For a small image your number is negative: the stem alone may see everything; then 0 blocks are needed.": (
        lambda n, s, k: math.ceil((n - 1 - s // 2) / (k // 2))
    ),
    "A block has three convolutions, but the two 1×1 do not look around: a block looks up kernel // 2 rows.": (
        lambda n, s, k: math.ceil(_needed(n, s, k) / 3)
    ),
    "Where the stem alone sees the first row, no block is needed; you ask for one at least.": lambda n, s, k: max(
        1, _needed(n, s, k)
    ),
    "For a small image the stem sees further than needed; that is no reason for blocks. Then 0 are needed.": (
        lambda n, s, k: abs(math.ceil((n - 1 - s // 2) / (k // 2)))
    ),
    "You round to the nearest: where the division leaves a rest, one more block is needed.": lambda n, s, k: max(
        0, round((n - 1 - s // 2) / (k // 2))
    ),
    "The size of the kernel is left out: a 5×5 looks up two rows.": lambda n, s, k: _needed(n, s, 3),
    "The size of the stem is left out: stem // 2 rows, not always 3.": lambda n, s, k: _needed(n, 7, k),
}


@exercise
def check_blocks_needed(answer: Callable[[int, int, int], int]) -> str:
    """Checks how many residual blocks let the last pixel of an image see its first row.

    Arguments:
        answer: takes the number of rows, the side of the stem's kernel and that of the blocks';
            gives the smallest number of blocks.

    Example:
        >>> check_blocks_needed(lambda rows, stem, kernel: 25)
        ✗ Not yet. 28 rows, 7×7 stem, 3×3 blocks: 25 blocks look 28 rows up, but 27 are needed.
    """
    given = [ask(answer, *case) for case in CASES]
    for value in given:
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, bool) or not isinstance(value, int):
            raise Mistake(f"A number of blocks is an int; you return {value!r} ({type(value).__name__}).")
    right = [_needed(*case) for case in CASES]
    if given == right:
        return "Right: 24 blocks for 28 rows. (A colour image of 32 rows needs 28.)"
    for diagnosis, miscount in MISCOUNTS.items():
        if given == [miscount(*case) for case in CASES]:
            raise Mistake(diagnosis)
    rows, stem, kernel = case = next(c for c, a, b in zip(CASES, given, right, strict=True) if a != b)
    said = given[CASES.index(case)]
    raise Mistake(
        f"{rows} rows, {stem}×{stem} stem, {kernel}×{kernel} blocks: {said} block{'s look' if said != 1 else ' looks'} "
        f"{stem // 2 + said * (kernel // 2)} rows up, but {rows - 1} are needed."
    )


# -- seeing far for little ------------------------------------------------------------------------

SEES, WEIGHTS, WIDTH, SIDES = 300, 5_000, 16, 7


@exercise
def check_far_sight(answer: Callable[[], nn.Module]) -> str:
    """Checks a stack that sees at least 300 pixels from the middle for at most 5,000 weights, no kernel beyond 7 × 7.

    Arguments:
        answer: called without arguments; gives a causal module that maps float images `[N, 1, 28, 28]` to features
            `[N, 16, 28, 28]`.

    Example:
        >>> check_far_sight(lambda: MaskedConv2d("A", 1, 16, 7))
        ✗ Not yet. From the middle your stack sees 24 earlier pixels: at least 300 of 406 are asked for.
    """
    if isinstance(answer, nn.Module):
        raise Mistake("Give the class or function that makes the stack, not a stack.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stack = answer()
    if stack is None or stack is ...:
        raise Unsolved
    if not isinstance(stack, nn.Module):
        raise Mistake(f"That made a {type(stack).__name__}: make a torch.nn.Module.")
    out = ask(stack, torch.zeros(1, 1, 28, 28))
    if not isinstance(out, Tensor) or out.shape != (1, WIDTH, 28, 28):
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise Mistake(f"An image (1, 1, 28, 28) became {shape}: {WIDTH} features for each pixel are asked for.")
    convs = [module for module in stack.modules() if isinstance(module, nn.Conv2d)]
    largest = max((side for conv in convs for side in conv.kernel_size), default=0)
    if largest > SIDES:
        raise Mistake(f"A kernel has a side of {largest}: {SIDES} is allowed. See far by depth.")
    try:
        check_causal(stack, (1, 6, 6))
    except CausalityError as error:
        raise Mistake(f"It leaks: {error}") from None
    ways = _ways_out(stack)
    if ways < WIDTH:
        raise Mistake(
            f"The {WIDTH} features are {ways} and their copies or mixtures. Each must carry something of its own."
        )
    seen = int(receptive_field(stack, at=(14, 14), shape=(1, 28, 28)).sum())
    if seen < SEES:
        raise Mistake(f"From the middle your stack sees {seen} earlier pixels: at least {SEES} of 406 are asked for.")
    weights = sum(_live(conv) for conv in convs)
    if weights > WEIGHTS:
        raise Mistake(f"It sees {seen} pixels, with {weights:,} live weights: {WEIGHTS:,} are allowed.")
    return f"{seen} of 406 pixels, for {weights:,} live weights. Can you see as far for half of them?"


@torch.no_grad()
def _ways_out(stack: nn.Module) -> int:
    """How many directions the features of noise have."""
    x = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features = stack.double().eval()(x.double()).movedim(1, 0).flatten(1)
    return int(torch.linalg.matrix_rank(features - features.mean(1, keepdim=True), rtol=1e-9))
