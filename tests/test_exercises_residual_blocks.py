"""The checks of notebook 02 name typical wrong answers for what they are."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pixelhelpers as ph
from pixelhelpers.exercises import check_blocks_needed, check_residual_block


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
