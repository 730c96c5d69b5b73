"""Checks of notebook 02: the residual block, and how many blocks it takes to see a whole image."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .verdict import Mistake, ask, exercise

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
                "BatchNorm, while training): it leaks. PixelCNN's block has no normalisation."
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
            raise Mistake(f"The picture asks for ReLU before each convolution; one gets its input from {_named(activation)}.")
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
        factor = float(((out - x) * added).sum() / added.square().sum())
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
