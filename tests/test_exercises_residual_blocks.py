"""The checks of notebook 02 name typical wrong answers for what they are."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pixelhelpers as ph
from pixelhelpers.exercises import check_blocks_needed, check_far_sight, check_network, check_residual_block


class Block(nn.Module):
    """A right answer, whose parts the wrong ones below replace."""

    kinds, kernel, widen_to = "BBB", 3, 1.0

    def __init__(self, hidden):
        super().__init__()
        half = self.half(hidden)
        self.squeeze = ph.MaskedConv2d(self.kinds[0], hidden, half, 1)
        self.look = self.around(half)
        self.widen = ph.MaskedConv2d(self.kinds[2], half, int(hidden * self.widen_to), 1)

    def half(self, hidden):
        return hidden // 2

    def around(self, half):
        return ph.MaskedConv2d(self.kinds[1], half, half, self.kernel)

    def forward(self, x):
        return x + self.inner(x)

    def inner(self, x):
        return self.widen(F.relu(self.look(F.relu(self.squeeze(F.relu(x))))))


class NoSkip(Block):
    def forward(self, x):
        return self.inner(x)


class AddedTwice(Block):
    def forward(self, x):
        return x + x + self.inner(x)


class InputInsideToo(Block):
    def forward(self, x):
        return x + (x + self.inner(x))


class Concatenated(Block):
    def forward(self, x):
        return torch.cat([x, self.inner(x)], dim=1)


class NoSqueeze(Block):
    def half(self, hidden):
        return hidden


class TypeAInTheMiddle(Block):
    kinds = "BAB"


class AllTypeA(Block):
    kinds = "AAA"


class PlainConvolution(Block):
    def around(self, half):
        return nn.Conv2d(half, half, 3, padding=1)


class Unpadded(Block):
    def around(self, half):
        return nn.Conv2d(half, half, 3)


class NeverWidened(Block):
    widen_to = 0.5


class StopsAtHalf(Block):
    def forward(self, x):
        return self.look(F.relu(self.squeeze(F.relu(x))))


class ReluAfterTheSum(Block):
    def forward(self, x):
        return F.relu(x + self.inner(x))


class ReluAfterTheLastConvolution(Block):
    def forward(self, x):
        return x + F.relu(self.inner(x))


class SkipAfterTheFirstRelu(Block):
    def forward(self, x):
        x = F.relu(x)
        return x + self.inner(x)


class InPlace(Block):
    def forward(self, x):
        h = self.squeeze(F.relu(x, inplace=True))
        return x + self.widen(F.relu(self.look(F.relu(h))))


class NoRelu(Block):
    def inner(self, x):
        return self.widen(self.look(self.squeeze(x)))


class NoFirstRelu(Block):
    def inner(self, x):
        return self.widen(F.relu(self.look(F.relu(self.squeeze(x)))))


class NoMiddleRelu(Block):
    def inner(self, x):
        return self.widen(F.relu(self.look(self.squeeze(F.relu(x)))))


class OnlyOneByOne(Block):
    kernel = 1


class Forgotten(Block):
    def inner(self, x):
        return self.widen(F.relu(self.squeeze(F.relu(x))))


class Shrunk(Block):
    def forward(self, x):
        return 0.5 * x + self.inner(x)


class Subtracted(Block):
    def forward(self, x):
        return x - self.inner(x)


class Halved(Block):
    def forward(self, x):
        return x + 0.5 * self.inner(x)


class DetachedSkip(Block):
    def forward(self, x):
        return x.detach() + self.inner(x)


class DetachedInner(Block):
    def forward(self, x):
        return x + self.inner(x).detach()


class Gelu(Block):
    def inner(self, x):
        return self.widen(F.gelu(self.look(F.gelu(self.squeeze(F.gelu(x))))))


class OneTanh(Block):
    def inner(self, x):
        return self.widen(F.relu(self.look(torch.tanh(self.squeeze(F.relu(x))))))


class Normalised(Block):
    norm = nn.BatchNorm2d

    def __init__(self, hidden):
        super().__init__(hidden)
        self.between = self.norm(hidden // 2)

    def inner(self, x):
        return self.widen(F.relu(self.look(F.relu(self.between(self.squeeze(F.relu(x)))))))


class PerImage(Normalised):
    norm = nn.InstanceNorm2d


class NormalisedByFunction(Block):
    def inner(self, x):
        h = self.look(F.relu(self.squeeze(F.relu(x))))
        if self.training:
            h = F.batch_norm(h, None, None, training=True)
        return self.widen(F.relu(h))


class SixtyFour(Block):
    def __init__(self, hidden):
        super().__init__(64)


class LookedTwice(Block):
    def inner(self, x):
        return self.widen(F.relu(self.look(F.relu(self.look(F.relu(self.squeeze(F.relu(x))))))))


class Unsolved(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        ...

    def forward(self, x): ...


@pytest.mark.parametrize(
    "answer, diagnosis",
    [
        (NoSkip, "The skip is missing"),
        (AddedTwice, "added twice"),
        (InputInsideToo, "added twice"),
        (Concatenated, "torch.cat"),
        (NoSqueeze, "Nothing is squeezed"),
        (TypeAInTheMiddle, "of type A"),
        (AllTypeA, "of type A"),
        (PlainConvolution, "The block leaks"),
        (Unpadded, "padding=1"),
        (NeverWidened, "widen back before you add"),
        (StopsAtHalf, "ends at half the features"),
        (ReluAfterTheSum, "after the addition"),
        (ReluAfterTheLastConvolution, "after the last convolution"),
        (SkipAfterTheFirstRelu, "not relu(x)"),
        (InPlace, "inplace=True"),
        (NoRelu, "There is no ReLU"),
        (NoFirstRelu, "before the first convolution"),
        (NoMiddleRelu, "before the second convolution"),
        (OnlyOneByOne, "The kernels are 1×1, 1×1, 1×1"),
        (Forgotten, "calls 2 convolutions"),
        (Shrunk, "return its input unchanged"),
        (Subtracted, "subtracted from"),
        (Halved, "multiplied by 0.5"),
        (DetachedSkip, "does not come back along the skip"),
        (DetachedInner, "No gradient comes back"),
        (Gelu, "gets its input from gelu"),
        (OneTanh, "gets its input from tanh"),
        (Normalised, "There is a BatchNorm2d inside"),
        (PerImage, "There is a InstanceNorm2d inside"),
        (NormalisedByFunction, "in training mode a pixel sees later ones"),
        (SixtyFour, "where the argument `hidden` should"),
        (LookedTwice, "calls 4 convolutions"),
        (nn.Identity(), "Give the class itself"),
        (lambda hidden: nn.Identity(), "no convolution"),
    ],
)
def test_a_wrong_block_is_named_for_what_it_is(answer, diagnosis, capsys):
    check_residual_block(answer)
    printed = capsys.readouterr().out
    assert printed.startswith("✗") and diagnosis in printed


def test_a_right_block_passes_and_an_unsolved_one_is_met_friendly(capsys):
    check_residual_block(Block)
    check_residual_block(Unsolved)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("✓") and lines[1].startswith("✎")


def test_a_block_with_dropout_or_without_biases_passes(capsys):
    class Dropping(Block):
        def inner(self, x):
            return F.dropout(super().inner(x), 0.5, training=self.training)

    def bare(hidden):
        block = Block(hidden)
        for conv in (block.squeeze, block.look, block.widen):
            conv.bias = None
        return block

    check_residual_block(Dropping)
    check_residual_block(bare)
    assert capsys.readouterr().out.count("✓") == 2


def needed(rows, stem, kernel):
    return max(0, math.ceil((rows - 1 - stem // 2) / (kernel // 2)))


@pytest.mark.parametrize(
    "answer, diagnosis",
    [
        (lambda n, s, k: max(0, math.ceil((n - s // 2) / (k // 2))), "rows - 1"),
        (lambda n, s, k: math.ceil((n - 1) / (k // 2)), "The stem looks up too"),
        (lambda n, s, k: max(0, math.ceil((n - 1 - s) / k)), "You count whole kernels"),
        (lambda n, s, k: max(0, math.ceil((n - s) / (k - 1))), "unmasked window"),
        (lambda n, s, k: max(0, (n - 1 - s // 2) // (k // 2)), "You round down"),
        (lambda n, s, k: math.ceil((n - 1 - s // 2) / (k // 2)), "negative"),
        (lambda n, s, k: math.ceil(needed(n, s, k) / 3), "three convolutions"),
        (lambda n, s, k: max(0, n - 1 - s // 2), "size of the kernel"),
        (lambda n, s, k: max(0, math.ceil((n - 4) / (k // 2))), "size of the stem"),
        (lambda n, s, k: needed(n, s, k) / 1, "is an int"),
        (lambda n, s, k: max(1, needed(n, s, k)), "no block is needed"),
        (lambda n, s, k: abs(math.ceil((n - 1 - s // 2) / (k // 2))), "no reason for blocks"),
        (lambda n, s, k: max(0, round((n - 1 - s // 2) / (k // 2))), "You round to the nearest"),
        (lambda n, s, k: needed(n, s, k) + 1, "25 blocks look 28 rows up"),
        (lambda n, s, k: max(0, math.ceil((n - 1 - s // 2) / (k - 1))), "12 blocks look 15 rows up"),
        (lambda n, s, k: 24, "32 rows, 7×7 stem"),
    ],
)
def test_a_wrong_count_is_named_for_what_it_is(answer, diagnosis, capsys):
    check_blocks_needed(answer)
    printed = capsys.readouterr().out
    assert printed.startswith("✗") and diagnosis in printed


def test_the_right_count_is_what_the_receptive_field_says(capsys):
    check_blocks_needed(needed)
    check_blocks_needed(lambda rows, stem, kernel: ...)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("✓") and lines[1].startswith("✎")
    for rows in (3, 4, 5, 9):
        for blocks in range(8):
            model = ph.PixelCNN(levels=2, hidden=4, blocks=blocks)
            seen = ph.receptive_field(model, at=(rows - 1, rows - 1), shape=(1, rows, rows))
            assert bool(seen[0].any()) == (blocks >= needed(rows, 7, 3))


# -- the whole network ----------------------------------------------------------------------------


class Network(nn.Module):
    """A right answer, whose parts the wrong ones below replace."""

    stem, hidden, blocks, head, levels, block = ("A", 5), 24, 3, 32, 16, ph.ResidualBlock

    def __init__(self):
        super().__init__()
        self.first = ph.MaskedConv2d(self.stem[0], 1, self.hidden, self.stem[1])
        self.middle = nn.Sequential(*(self.make(self.hidden) for _ in range(self.blocks)))
        self.widen = ph.MaskedConv2d("B", self.hidden, self.head, 1)
        self.last = ph.MaskedConv2d("B", self.head, self.levels, 1)

    def make(self, hidden):
        return self.block(hidden)

    def scaled(self, x):
        return x * (2 / 15) - 1

    def features(self, x):
        return self.middle(self.first(self.scaled(x)))

    def forward(self, x):
        return self.last(F.relu(self.widen(F.relu(self.features(x)))))


def network(**parts):
    return type("Learned", (Network,), parts)


def scaled(scale):
    return network(scaled=lambda self, x: scale(x))


def ended(end):
    return network(forward=lambda self, x: end(Network.forward(self, x)))


class FullWidth(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.look = ph.MaskedConv2d("B", hidden, hidden, 3)

    def forward(self, x):
        return x + self.look(F.relu(x))


WRONG_NETWORKS = {
    "stem of type B": (network(stem=("B", 5)), "Your stem has 312 live weights"),
    "stem 7×7": (network(stem=("A", 7)), "Your stem has 576 live weights"),
    "stem 3×3": (network(stem=("A", 3)), "Your stem has 96 live weights"),
    "two blocks": (network(blocks=2), "There are 2 residual blocks"),
    "four blocks": (network(blocks=4), "There are 4 residual blocks"),
    "64 features": (network(hidden=64), "The stem goes from 1 to 64"),
    "narrow head": (network(head=24), "24 features become 32"),
    "256 levels": (network(levels=256), "The last convolution gives 256"),
    "15 levels": (network(levels=15), "The last convolution gives 15"),
    "full width": (network(block=FullWidth), "not those of a residual block"),
    "blocks without a skip": (network(block=NoSkip), "the skip x + f(x)"),
    "plain blocks": (network(block=PlainConvolution), "A 3×3 in a block is a plain convolution"),
    "type A in a block": (network(block=TypeAInTheMiddle), "of type A: only the first layer is"),
    "a block without its first ReLU": (network(block=NoFirstRelu), "is convolution 1 of block 1"),
    "a block without its middle ReLU": (network(block=NoMiddleRelu), "is convolution 2 of block 1"),
    "normalised": (network(block=Normalised), "There is a BatchNorm2d inside"),
    "no ReLU before the head": (
        network(forward=lambda self, x: self.last(F.relu(self.widen(self.features(x))))),
        "between the blocks and the first convolution of the head",
    ),
    "no ReLU in the head": (
        network(forward=lambda self, x: self.last(self.widen(F.relu(self.features(x))))),
        "between the two convolutions of the head",
    ),
    "no ReLU at all in the head": (
        network(forward=lambda self, x: self.last(self.widen(self.features(x)))),
        "There is no ReLU in the head",
    ),
    "ReLU after the stem": (
        network(features=lambda self, x: self.middle(F.relu(self.first(self.scaled(x))))),
        "between stem and blocks",
    ),
    "not scaled": (scaled(lambda x: x.float()), "The image is not scaled"),
    "scaled to 0 … 1": (scaled(lambda x: x / 15), "scaled to 0 … 1"),
    "scaled for 256 levels": (scaled(lambda x: x / 127.5 - 1), "as if it had 256 levels"),
    "divided by 8": (scaled(lambda x: x / 8 - 1), "half of 16"),
    "divided by 7": (scaled(lambda x: x / 7 - 1), "divided by 7"),
    "scaled by its own range": (
        scaled(lambda x: (x - x.amin()) / (x.amax() - x.amin()) * 2.0 - 1),
        "its own darkest and brightest",
    ),
    "scaled to integers": (scaled(lambda x: (x / 7.5 - 1).int().float()), "integers again"),
    "first image for all": (scaled(lambda x: (x[:1] / 7.5 - 1).expand_as(x)), "depend on the others of its batch"),
    "softmax": (ended(lambda z: z.softmax(1)), "these are probabilities"),
    "log_softmax": (ended(lambda z: z.log_softmax(1)), "Leave log_softmax to the loss"),
    "ReLU at the end": (ended(torch.relu), "an activation after the last convolution"),
    "GELU at the end": (ended(F.gelu), "done to the logits after the last one"),
    "doubled": (ended(lambda z: 2 * z), "multiplied by 2"),
    "levels last": (ended(lambda z: z.movedim(1, -1)), "The levels are on axis 1"),
    "flat": (ended(lambda z: z.flatten(2)), "logits (3, 16, 7, 9) are asked for"),
    "argmax": (ended(lambda z: z.argmax(1)), "logits (3, 16, 7, 9) are asked for"),
    "half precision": (ended(lambda z: z.half()), "The logits are torch.float16"),
    "detached": (ended(lambda z: z.detach()), "no gradient comes back"),
    "transposed": (
        network(forward=lambda self, x: Network.forward(self, x.mT).mT),
        "Rows and columns are exchanged",
    ),
    "an object": (Network(), "Give the class itself"),
    "no module": (lambda: 3, "must give a torch.nn.Module"),
}


@pytest.mark.parametrize("name", WRONG_NETWORKS)
def test_a_wrong_network_is_named_for_what_it_is(capsys, name):
    answer, words = WRONG_NETWORKS[name]
    check_network(answer)
    said = capsys.readouterr().out
    assert said.startswith("✗") and words in said, said


class Flat(nn.Sequential):
    def __init__(self):
        super().__init__(
            ph.MaskedConv2d("A", 1, 24, 5),
            *(Block(24) for _ in range(3)),
            nn.Dropout(0.5),
            nn.ReLU(),
            nn.Conv2d(24, 32, 1),
            nn.ReLU(),
            nn.Conv2d(32, 16, 1),
        )

    def forward(self, x):
        return super().forward(x.float() / 7.5 - 1)


@pytest.mark.parametrize("answer", [Network, Flat, lambda: Network(), lambda levels=16: network(levels=levels)()])
def test_right_networks_pass(capsys, answer):
    check_network(answer)
    assert capsys.readouterr().out.startswith("✓ All of it")


class EmptyNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        ...

    def forward(self, x): ...


@pytest.mark.parametrize("answer", [EmptyNetwork, ..., None])
def test_an_empty_network_is_not_solved_yet(capsys, answer):
    check_network(answer)
    assert capsys.readouterr().out.startswith("✎ Not solved yet")


# -- seeing far for little ------------------------------------------------------------------------


class Squeezed(nn.Module):
    def __init__(self, narrow=4, kernel=7, hidden=16):
        super().__init__()
        self.squeeze = ph.MaskedConv2d("B", hidden, narrow, 1)
        self.look = ph.MaskedConv2d("B", narrow, narrow, kernel)
        self.widen = ph.MaskedConv2d("B", narrow, hidden, 1)

    def forward(self, x):
        return x + self.widen(F.relu(self.look(F.relu(self.squeeze(F.relu(x))))))


def stacked(*layers, stem=("A", 7), hidden=16):
    return lambda: nn.Sequential(ph.MaskedConv2d(stem[0], 1, hidden, stem[1]), *(make() for make in layers))


FAR = [Squeezed] * 4


@pytest.mark.parametrize(
    "answer",
    [
        stacked(*FAR),
        stacked(*[lambda: Squeezed(3)] * 5, stem=("A", 5)),
        stacked(*[lambda: Squeezed(4, kernel=5)] * 6),
        stacked(*[lambda: Squeezed(4, kernel=3)] * 12),
    ],
)
def test_far_sight_for_little_passes(capsys, answer):
    check_far_sight(answer)
    said = capsys.readouterr().out
    assert said.startswith("✓") and "of 406 pixels, for" in said, said


@pytest.mark.parametrize(
    "answer, words",
    [
        (stacked(), "sees 24 earlier pixels"),
        (stacked(*FAR[:2]), "earlier pixels: at least 300"),
        (stacked(*[lambda: ph.ResidualBlock(16)] * 12), "with 7,296 live weights"),
        (stacked(*FAR, stem=("B", 7)), "It leaks"),
        (stacked(*FAR, lambda: nn.BatchNorm2d(16)), "It leaks"),
        (stacked(*FAR, lambda: nn.InstanceNorm2d(16)), "It leaks"),
        (stacked(*FAR, lambda: nn.Conv2d(16, 16, 3, padding=1)), "It leaks"),
        (stacked(*FAR, lambda: nn.Conv2d(16, 16, 3)), "became (1, 16, 26, 26)"),
        (stacked(stem=("A", 27)), "A kernel has a side of 27"),
        (
            stacked(*[lambda: ph.MaskedConv2d("B", 1, 1, 7)] * 4, lambda: nn.Conv2d(1, 16, 1), hidden=1),
            "are 1 and their",
        ),
        (stacked(*[lambda: Squeezed(hidden=8)] * 4, hidden=8), "became (1, 8, 28, 28)"),
        (nn.Identity(), "not a stack"),
        (lambda: torch.zeros(3), "That made a Tensor"),
    ],
)
def test_a_stack_that_will_not_do_is_told_why(capsys, answer, words):
    check_far_sight(answer)
    said = capsys.readouterr().out
    assert said.startswith("✗") and words in said, said


@pytest.mark.parametrize("answer", [..., None, lambda: ..., lambda: None])
def test_no_stack_is_not_solved_yet(capsys, answer):
    check_far_sight(answer)
    assert capsys.readouterr().out.startswith("✎ Not solved yet")
