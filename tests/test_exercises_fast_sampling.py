"""Typical answers to the exercises of notebook 05: each wrong one is named for what it is."""

import pytest
import torch
from torch.nn import functional as F

from pixelhelpers.exercises import check_cache, check_iterate, check_little_work, check_turns_needed
from pixelhelpers.sampling import draw


def verdict(capsys, check, answer) -> str:
    check(answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("check", [check_turns_needed, check_iterate, check_cache, check_little_work])
@pytest.mark.parametrize("stub", [None, ..., lambda *arguments: None, lambda *arguments: ...])
def test_unsolved_stub_gets_a_friendly_line(capsys, check, stub):
    assert verdict(capsys, check, stub).startswith("✎ Not solved yet")


@pytest.mark.parametrize(
    "answer",
    [
        lambda h, w, k: w + min(k // 2 + 1, w) * (h - 1),
        lambda h, w, k: min(w + (k + 1) // 2 * (h - 1), h * w),
        lambda h, w, k: torch.tensor(w + min(k // 2 + 1, w) * (h - 1)),
    ],
)
def test_turns_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_turns_needed, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda h, w, k: h * w, "pixel by pixel"),
        (lambda h, w, k: w + k // 2 * (h - 1), "one too small"),
        (lambda h, w, k: w + k * (h - 1), "not the kernel's side"),
        (lambda h, w, k: w + (k // 2 + 1) * h, "last row is counted twice"),
        (lambda h, w, k: w - 1 + (k // 2 + 1) * (h - 1), "number of the last turn"),
        (lambda h, w, k: h + (k // 2 + 1) * (w - 1), "exchanged"),
        (lambda h, w, k: w + (k // 2 + 1) * (h - 1), "no further ahead"),
        (lambda h, w, k: h + w - 1, "lag of 1"),
        (lambda h, w, k: 1, "all pixels at once"),
        (lambda h, w, k: 99, "too few: some pixel would be drawn before"),
        (lambda h, w, k: 136, "For 16 x 16 and kernel 3 you say 136: that is too many"),
        (lambda h, w, k: w + (k - 1) * (h - 1), "whole reach to both sides"),
        (lambda h, w, k: w + min((k + 1) // 2 + 1, w) * (h - 1), "too many"),
        (lambda h, w, k: w + min(k // 2 + 1, max(w - 1, 1)) * (h - 1), "too few"),
        (lambda h, w, k: h + min(k // 2 + 1, h) * (h - 1), "too few"),
        (lambda h, w, k: float(w + min(k // 2 + 1, w) * (h - 1)), "Turns are counted"),
        (lambda h, w, k: "136", "return a number"),
        (lambda h, w, k: True, "return a number"),
        (lambda h, w, k: w / 0, "raised ZeroDivisionError"),
    ],
)
def test_turns_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_turns_needed, answer)


def until_equal(redraw, x):
    while not torch.equal(new := redraw(x.clone()), x):
        x = new
    return x


def without_a_copy(redraw, x):
    while not torch.equal(new := redraw(x), x):
        x = new
    return x


def fixed_number(passes):
    def iterate(redraw, x):
        for _ in range(passes):
            x = redraw(x)
        return x

    return iterate


def once_more(redraw, x):
    return redraw(until_equal(redraw, x))


def for_ever(redraw, x):
    while True:
        x = redraw(x)


def mostly_equal(redraw, x):
    while ((new := redraw(x.clone())) != x).double().mean() > 0.2:
        x = new
    return new


def first_image_only(redraw, x):
    while not torch.equal((new := redraw(x.clone()))[0], x[0]):
        x = new
    return new


def by_means(redraw, x):
    while (new := redraw(x.clone())).double().mean() != x.double().mean():
        x = new
    return new


def over_the_zeros(redraw, zeros):
    while not torch.equal(new := redraw(zeros.clone()), zeros):
        zeros.copy_(new)
    return zeros


def again_and_again(redraw, x):
    new = redraw(x.clone())
    return x if torch.equal(new, x) else again_and_again(redraw, new)


def with_a_copy(redraw, x):
    x = x.clone()
    for _ in range(10_000):
        old = x.clone()
        x = redraw(x)
        if not (x != old).any():
            break
    return x


@pytest.mark.parametrize("answer", [until_equal, again_and_again, with_a_copy])
def test_iterate_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_iterate, answer).startswith("✓")


def until(close):
    """Makes an iteration that stops when `close(new, old)`."""

    def iterate(redraw, x):
        while not close(new := redraw(x.clone()), x):
            x = new
        return x

    return iterate


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (fixed_number(1), "after 1 pass it"),
        (fixed_number(5), "too early"),
        (fixed_number(36), "The right images, after 36 passes. After"),
        (first_image_only, "all images"),
        (by_means, "too early"),
        (over_the_zeros, "work on a copy"),
        (mostly_equal, "too early"),
        (once_more, "The right image"),
        (for_ever, "more than 200 times"),
        (lambda redraw, x: until_equal(redraw, torch.ones_like(x)), "not the zeros that you were given"),
        (lambda redraw, x: until_equal(redraw, torch.randint_like(x, 4)), "not the zeros that you were given"),
        (lambda redraw, x: until_equal(redraw, x).float(), "keep the type"),
        (until(lambda new, old: torch.allclose(new.float(), old.float(), atol=1)), "too early"),
        (until(lambda new, old: bool((new == old).any())), "too early"),
        (until(lambda new, old: bool((new == old).flatten(1).all(1).any())), "too early"),
        (until(lambda new, old: bool((new == old)[..., 0].all())), "too early"),
        (until(lambda new, old: new.long().sum() == old.long().sum()), "too early"),
        (without_a_copy, "compare with a copy"),
        (lambda redraw, x: x, "never called"),
        (lambda redraw, x: redraw(x)[0], "return the images"),
        (lambda redraw, x: 3, "return the images"),
        (lambda redraw, x: redraw(), "raised TypeError"),
    ],
)
def test_iterate_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_iterate, answer)


# A cache


class Cached:
    """A right answer, whose parts the wrong ones below replace."""

    shift = (0, 0)

    def __init__(self, layer, count, height, width):
        self.layer, self.half = layer, layer.kernel_size[0] // 2
        self.kernel, self.bias = self.weights(layer).detach(), layer.bias
        size = (height + 2 * self.half, width + 2 * self.half)
        self.cache = self.kernel.new_zeros(count, layer.in_channels, *size)

    def weights(self, layer):
        return layer.weight * layer.mask

    def write(self, row, column, values):
        self.cache[:, :, row + self.half, column + self.half] = values

    def window(self, row, column):
        row, column, side = max(row + self.shift[0], 0), max(column + self.shift[1], 0), 2 * self.half + 1
        return self.cache[:, :, row : row + side, column : column + side]

    def look(self, row, column):
        return F.conv2d(self.window(row, column), self.kernel, self.bias)[:, :, 0, 0]


def cached(**parts):
    return type("Learned", (Cached,), parts)


class LastRows(Cached):
    """Keeps no more rows than the kernel looks at."""

    def __init__(self, layer, count, height, width):
        super().__init__(layer, count, self.half_of(layer) + 1 - 2 * self.half_of(layer), width)
        self.row, self.kernel = 0, self.kernel[:, :, : self.half + 1]

    @staticmethod
    def half_of(layer):
        return layer.kernel_size[0] // 2

    def scroll(self, row):
        if row > self.row:
            self.row = row
            self.cache = torch.cat([self.cache[:, :, 1:], torch.zeros_like(self.cache[:, :, :1])], 2)

    def write(self, row, column, values):
        self.scroll(row)
        self.cache[:, :, -1, column + self.half] = values

    def look(self, row, column):
        self.scroll(row)
        window = self.cache[..., column : column + 2 * self.half + 1]
        return torch.einsum("nihw,oihw->no", window, self.kernel) + self.bias


class Handed:
    """Hands every value on to the outputs that see it."""

    def __init__(self, layer, count, height, width):
        self.half, self.bias, self.values = layer.kernel_size[0] // 2, layer.bias, {}
        self.kernel = (layer.weight * layer.mask).flip(-2, -1)
        self.out = self.kernel.new_zeros(count, layer.out_channels, height + 2 * self.half, width + 2 * self.half)

    def write(self, row, column, values):
        change = values - self.values.get((row, column), 0)
        self.values[row, column] = values
        rows, columns = slice(row, row + 2 * self.half + 1), slice(column, column + 2 * self.half + 1)
        self.out[:, :, rows, columns] += torch.einsum("ni,oihw->nohw", change, self.kernel)

    def look(self, row, column):
        return self.out[:, :, row + self.half, column + self.half] + self.bias


class InADictionary(Cached):
    def __init__(self, layer, count, height, width):
        super().__init__(layer, count, height, width)
        self.values, self.nothing = {}, torch.zeros(count, layer.in_channels, dtype=torch.float64)

    def write(self, row, column, values):
        self.values[row, column] = values

    def window(self, row, column):
        near = range(-self.half, self.half + 1)
        rows = [[self.values.get((row + i, column + j), self.nothing) for j in near] for i in near]
        return torch.stack([torch.stack(line, -1) for line in rows], -2)


@pytest.mark.parametrize("answer", [Cached, LastRows, Handed, InADictionary])
def test_caches_that_are_right_pass(capsys, answer):
    assert verdict(capsys, check_cache, answer).startswith("✓")


def all_of_it(self, row, column):
    half = self.half
    inner = self.cache[:, :, half : self.cache.shape[2] - half, half : self.cache.shape[3] - half]
    return self.layer(inner)[:, :, row, column]


class AtTheStart(Cached):
    def __init__(self, layer, count, height, width):
        super().__init__(layer, count, height, width)
        self.out = layer(torch.zeros(count, layer.in_channels, height, width, dtype=torch.float64))

    def look(self, row, column):
        return self.out[:, :, row, column]


class InSinglePrecision(Cached):
    def __init__(self, layer, count, height, width):
        super().__init__(layer, count, height, width)
        self.cache = self.cache.float()

    def window(self, row, column):
        return super().window(row, column).double()


class OfOnes(Cached):
    def __init__(self, layer, count, height, width):
        super().__init__(layer, count, height, width)
        self.cache += 1


class OneImage(Cached):
    def __init__(self, layer, count, height, width):
        super().__init__(layer, 1, height, width)

    def write(self, row, column, values):
        super().write(row, column, values[:1])


class Forgetful(Cached):
    def write(self, row, column, values):
        if column == 0:
            self.cache.zero_()
        super().write(row, column, values)


def added(self, row, column, values):
    self.cache[:, :, row + self.half, column + self.half] += values


def to_the_left(self, row, column, values):
    Cached.write(self, row, max(column - 1, 0), values)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (cached(weights=lambda self, layer: layer.weight), "is the mask left out"),
        (cached(weights=lambda self, layer: 2 * layer.weight * layer.mask), "twice as strongly"),
        (cached(look=lambda self, r, c: Cached.look(self, r, c) - self.bias), "the bias is missing"),
        (cached(look=lambda self, r, c: Cached.look(self, r, c) + self.bias), "the bias is added twice"),
        (cached(look=lambda self, r, c: Cached.look(self, r, c).relu()), "a ReLU"),
        (cached(look=lambda self, r, c: Cached.look(self, r, c)[..., None, None]), "look returns (4, 3, 1, 1)"),
        (cached(look=all_of_it), "times the multiplications"),
        (
            cached(look=lambda self, r, c: self.layer(self.window(r, c))[:, :, self.half, self.half]),
            "times the multiplications",
        ),
        (cached(write=lambda self, row, column, values: None), "never read"),
        (AtTheStart, "never read"),
        (cached(write=added), "it takes its place"),
        (cached(write=lambda self, r, c, values: Cached.write(self, r, c, 2 * values)), "twice as strongly"),
        (cached(write=lambda self, r, c, values: Cached.write(self, r, c, values[:1])), "the first one"),
        (cached(write=to_the_left), "differs from the layer's"),
        (cached(shift=(-1, 0)), "differs from the layer's"),
        (cached(shift=(0, -1)), "differs from the layer's"),
        (InSinglePrecision, "float64"),
        (OfOnes, "the first output differs"),
        (OneImage, "look returns (1, 3)"),
        (Forgetful, "differs from the layer's"),
        (cached(__init__=lambda self, layer, n, h, w: Cached.__init__(self, layer, n, w, h)), "raised"),
        (lambda layer, count, height, width: 0, "two methods"),
    ],
)
def test_a_wrong_cache_is_named_for_what_it_is(capsys, answer, words):
    said = verdict(capsys, check_cache, answer)
    assert said.startswith("✗") and words in said, said


# Drawing with little work


def taken(probs, u):
    """Levels from probabilities `[N, levels, ...]` and numbers `[N, ...]`."""
    return draw(probs.movedim(1, -1), u).byte()


def blank(uniform):
    return torch.zeros(len(uniform), 1, *uniform.shape[1:], dtype=torch.uint8)


def one_by_one(model, uniform, crop=False):
    x = blank(uniform)
    for row in range(x.shape[2]):
        for column in range(x.shape[3]):
            seen = model(x[:, :, : row + 1] if crop else x)
            x[:, 0, row, column] = taken(seen[:, :, row, column].softmax(1), uniform[:, row, column])
    return x


def all_at_once(model, uniform, passes=1000, start=0):
    x = blank(uniform) + start
    for _ in range(passes):
        new = taken(model(x).softmax(1), uniform)[:, None]
        if torch.equal(new, x):
            break
        x = new
    return x


def by_fronts(model, uniform, lag=4):
    x = blank(uniform)
    turn = torch.arange(x.shape[3]) + lag * torch.arange(x.shape[2])[:, None]
    for now in range(int(turn.max()) + 1):
        rows, columns = (turn == now).nonzero(as_tuple=True)
        x[:, 0, rows, columns] = taken(model(x)[:, :, rows, columns].softmax(1), uniform[:, rows, columns])
    return x


def by_rows(model, uniform, reach=8):
    x = blank(uniform)
    for row in range(x.shape[2]):
        for _ in range(x.shape[3]):
            band = x[:, :, max(0, row - reach) : row + 1]
            new = taken(model(band)[:, :, -1].softmax(1), uniform[:, row])
            if torch.equal(new, x[:, 0, row]):
                break
            x[:, 0, row] = new
    return x


@pytest.mark.parametrize(
    "answer",
    [all_at_once, lambda *given: all_at_once(*given, start=2), by_rows, lambda *given: by_rows(*given, reach=12)],
)
def test_little_work_passes(capsys, answer):
    assert verdict(capsys, check_little_work, answer).startswith("✓ The same images with")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (one_by_one, "100.0% of the naive"),
        (lambda *given: one_by_one(*given, crop=True), "53.1% of the naive"),
        (by_fronts, "less than 10 %"),
        (lambda *given: by_fronts(*given, lag=1), "Not the images"),
        (lambda *given: all_at_once(*given, passes=1), "Not the images"),
        (lambda *given: all_at_once(*given, passes=10), "Not the images"),
        (lambda *given: by_rows(*given, reach=1), "Not the images"),
        (lambda model, uniform: all_at_once(model, 1 - uniform), "differs is (0, 0)"),
        (lambda model, uniform: all_at_once(model, torch.rand_like(uniform)), "Not the images"),
        (lambda model, uniform: all_at_once(model, uniform.mT).mT, "Not the images"),
        (lambda model, uniform: (model(blank(uniform)), blank(uniform))[1], "Not the images"),
        (lambda model, uniform: blank(uniform), "never asked"),
        (lambda *given: all_at_once(*given).float(), "torch.float32"),
        (lambda *given: all_at_once(*given)[:, 0], "(3, 16, 18)"),
    ],
)
def test_much_work_and_other_images_are_told(capsys, answer, words):
    said = verdict(capsys, check_little_work, answer)
    assert said.startswith("✗") and words in said, said
