"""The checks of notebook 03 name typical wrong answers for what they are."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from pixelhelpers.exercises import check_baseline, check_bits_per_dim, check_to_levels, check_train


def nats(logits, images):
    """Nats of every value, `[N, H, W]`."""
    return F.cross_entropy(logits, images[:, 0].long(), reduction="none")


def picked(values, images):
    return values.gather(1, images.long())[:, 0]


def right(logits, images):
    return nats(logits, images).mean((1, 2)) / math.log(2)


@pytest.mark.parametrize(
    "answer, diagnosis",
    [
        (lambda z, x: -right(z, x), "The sign"),
        (lambda z, x: nats(z, x).mean((1, 2)), "These are nats"),
        (lambda z, x: -nats(z, x).mean((1, 2)), "negative nats"),
        (lambda z, x: nats(z, x).mean((1, 2)) * math.log(2), "so divide"),
        (lambda z, x: -picked(z.softmax(1), x).log10().mean((1, 2)), "base 10"),
        (lambda z, x: nats(z, x).sum((1, 2)) / math.log(2), "sum over the image's pixels"),
        (lambda z, x: nats(z, x).sum((1, 2)) / math.log(2) / 784, "these* images"),
        (lambda z, x: nats(z, x).sum((1, 2)), "sum in nats"),
        (
            lambda z, x: nats(z, x).sum((1, 2)) / math.log(2) / len(x),
            "by the number of images, not",
        ),
        (lambda z, x: right(z, x) / len(x), "number of images as well"),
        (lambda z, x: nats(z, x).sum((1, 2)) / math.log(2) / z.shape[1], "number of levels"),
        (lambda z, x: F.cross_entropy(z, x[:, 0].long()) / math.log(2), "averaged over the batch"),
        (lambda z, x: F.cross_entropy(z, x[:, 0].long()), "the number is in nats"),
        (lambda z, x: right(z, x).sum(), "summed over the batch"),
        (lambda z, x: -picked(z.softmax(0), x).log2().mean((1, 2)), "over the images of the batch"),
        (lambda z, x: -picked(z.softmax(2), x).log2().mean((1, 2)), "over the rows"),
        (lambda z, x: -picked(z.softmax(-1), x).log2().mean((1, 2)), "over the columns"),
        (lambda z, x: -picked(z, x).mean((1, 2)) / math.log(2), "not a log-probability"),
        (lambda z, x: picked(z.softmax(1), x).mean((1, 2)), "not its logarithm"),
        (lambda z, x: -picked(z.softmax(1), x).mean((1, 2)).log2(), "the probabilities multiply"),
        (lambda z, x: right(z.softmax(1), x), "applied twice"),
        (lambda z, x: -z.softmax(1).amax(1).log2().mean((1, 2)), "likes best"),
        (lambda z, x: -picked(z.softmax(1), x).log2().mean((1, 2)), "Right for moderate logits"),
        (lambda z, x: right(z, x).tolist(), "return a tensor"),
        (lambda z, x: nats(z, x) / math.log(2), "the shape (3, 5, 8)"),
        (lambda z, x: nats(z, x).sum((1, 2)) / math.log(2) / z.shape[-1] ** 2, "not square"),
        (lambda z, x: right(z, x).mean().expand(len(x)), "Each image got the mean"),
        (lambda z, x: nats(z, x).mean((1, 2)) / math.log(256), "divided by ln 256"),
        (lambda z, x: nats(z, x).mean((1, 2)) / math.log(z.shape[1]), "log(number of levels)"),
        (lambda z, x: right(z, x) / z.shape[1], "the number of levels as well"),
        (lambda z, x: 2 ** right(z, x), "perplexity"),
        (lambda z, x: right(z, x).exp(), "the exponential of the bits"),
        (lambda z, x: (1 - picked(z.softmax(1), x)).mean((1, 2)), "1 - p"),
        (lambda z, x: right(z, x.roll(1, -1)), "the level of a neighbour"),
        (lambda z, x: nats(z, x)[:, 0].mean(1) / math.log(2), "Only the first row"),
        (lambda z, x: torch.special.entr(z.softmax(1)).sum(1).mean((1, 2)) / math.log(2), "the entropy"),
        (lambda z, x: -picked(z.softmax(1) + 1e-6, x).log2().mean((1, 2)), "Nearly"),
        (lambda z, x: right(z.half(), x).double(), "Nearly"),
        (lambda z, x: -picked(z.softmax(1) + 1e-30, x).log2().mean((1, 2)), "a smallest probability"),
        (lambda z, x: 2 * right(z, x), "Not the bits per dimension"),
        (lambda z, x: right(z, x) / 0, "NaN or infinite"),
    ],
)
def test_a_wrong_score_is_named_for_what_it_is(answer, diagnosis, capsys):
    check_bits_per_dim(answer)
    printed = capsys.readouterr().out
    assert printed.startswith("✗") and diagnosis in printed


@pytest.mark.parametrize(
    "answer, diagnosis",
    [
        (lambda x: ((x * 0.5 + 0.5) * 255).long(), "63 of 256 levels come back one too low"),
        (lambda x: ((x + 1) / 2 * 255).int(), "one too low"),
        (lambda x: (x * 127.5 + 128).ceil().long(), "one too high"),
        (lambda x: ((x * 0.5 + 0.5) * 255).ceil().to(torch.uint8), "seventh digit"),
        (lambda x: (x * 127.5 + 127.5).to(torch.uint8), "seventh digit"),
        (lambda x: ((x * 0.5 + 0.5) * 255).round().to(torch.int8), "overflow"),
        (lambda x: ((x * 0.5 + 0.5) * 256).round().clamp(0, 255).to(torch.uint8), "not by 256"),
        (lambda x: ((x + 1) * 255).round().clamp(0, 255).to(torch.uint8), "halve it"),
        (lambda x: 255 - ((x * 0.5 + 0.5) * 255).round().to(torch.uint8), "exchanged"),
        (lambda x: (x.abs() * 255).round().to(torch.uint8), "the dark half"),
        (lambda x: (x * 127 + 127).round().to(torch.uint8), "127 is not"),
        (lambda x: (x * 128 + 127).round().clamp(0, 255).to(torch.uint8), "128 is not"),
        (lambda x: (x * 0.5 + 0.5).to(torch.uint8) * 255, "became integers before"),
        (lambda x: ((x - x.min()) / (x.max() - x.min()) * 255).round().to(torch.uint8), "brightened"),
        (lambda x: x.mul_(0.5).add_(0.5).mul_(255).round_().to(torch.uint8), "changed the image"),
        (lambda x: ((x * 0.5 + 0.5) * 255).round(), "still floats"),
        (lambda x: (x * 0.5 + 0.5) * 255, "still floats"),
        (lambda x: x * 0.5 + 0.5, "undoes Normalize"),
        (lambda x: (x * 255).round().long(), "Normalize is not undone"),
        (lambda x: (x * 255).round().clamp(0, 255).to(torch.uint8), "Normalize is not undone"),
        (lambda x: ((x * 0.5 + 0.5) * 256).long(), "not by 256"),
        (lambda x: ((x * 0.5 + 0.5) * 255).ceil().long() + 1, "one too high"),
        (lambda x: (x * 0.5 + 0.5).round().long(), "only 0 and 1"),
        (lambda x: ((x + 0.5) * 0.5 * 255).round().long(), "wrong order"),
        (lambda x: x.flatten(), "the same shape"),
    ],
)
def test_a_wrong_way_back_is_named_for_what_it_is(answer, diagnosis, capsys):
    check_to_levels(answer)
    printed = capsys.readouterr().out
    assert printed.startswith("✗") and diagnosis in printed


def test_right_answers_pass_and_unsolved_ones_are_met_friendly(capsys):
    check_bits_per_dim(right)
    check_bits_per_dim(lambda z, x: -picked(z.log_softmax(1), x).mean((1, 2)) / math.log(2))
    check_to_levels(lambda x: (x * 127.5 + 127.5).round().to(torch.uint8))
    check_to_levels(lambda x: torch.round((x + 1) / 2 * 255).long())
    check_to_levels(lambda x: ((x * 0.5 + 0.5) * 255 + 0.5).floor().short())
    check_to_levels(lambda x: (x[..., None] - torch.linspace(-1, 1, 256)).abs().argmin(-1))
    check_bits_per_dim(lambda z, x: (z.logsumexp(1) - picked(z, x)).mean((1, 2)) / math.log(2))
    check_bits_per_dim(lambda z, x: torch.stack([right(a[None], b[None])[0] for a, b in zip(z, x, strict=True)]))
    check_bits_per_dim(lambda z, x: ...)
    check_to_levels(lambda x: None)
    verdicts = [line[0] for line in capsys.readouterr().out.splitlines()]
    assert verdicts == ["✓"] * 8 + ["✎"] * 2


# -- the loop -------------------------------------------------------------------------------------


def loop(
    *,
    make=torch.optim.Adam,
    clear="after",
    step=1,
    number=lambda loss: loss.item() / math.log(2),
    given=lambda x: x,
    target=lambda x: x[:, 0].long(),
    batches=lambda images, size: images.split(size),
    lr=lambda lr: lr,
    end=lambda bits: bits,
    begin=lambda model: model,
    anew=False,
    late=False,
    reduction="mean",
):
    """Makes a learner's loop; every argument is a way to go wrong."""

    def train(model, images, batch_size, rate):
        model = begin(model)
        optimizer = make(model.parameters(), lr=lr(rate))
        bits = []
        for x in batches(images, batch_size):
            if anew:
                optimizer = make(model.parameters(), lr=lr(rate))
            loss = F.cross_entropy(model(given(x)), target(x), reduction=reduction)
            loss.backward()
            if clear == "before the step":
                optimizer.zero_grad()
            for _ in range(step):
                optimizer.step()
            if clear == "after":
                optimizer.zero_grad()
            if late:
                loss = F.cross_entropy(model(given(x)), target(x))
            bits.append(number(loss))
        return end(bits)

    return train


def clipped(parameters, lr):
    """Adam that never sees a long gradient."""
    parameters = list(parameters)
    optimizer = torch.optim.Adam(parameters, lr=lr)
    step = optimizer.step

    def shorter():
        torch.nn.utils.clip_grad_norm_(parameters, 0.05)
        step()

    optimizer.step = shorter
    return optimizer


def blackened(model, images, batch_size, lr):
    bits = loop()(model, images, batch_size, lr)
    images.zero_()
    return bits


WRONG_LOOPS = {
    "never cleared": (loop(clear=None), "never cleared"),
    "cleared too early": (loop(clear="before the step"), "cleared before it"),
    "no step": (loop(step=0), "Is the step missing"),
    "two steps": (loop(step=2), "steps twice"),
    "nats": (loop(number=lambda loss: loss.item()), "These are nats"),
    "times ln 2": (loop(number=lambda loss: loss.item() * math.log(2)), "to get bits, divide"),
    "negative": (loop(number=lambda loss: -loss.item() / math.log(2)), "The sign"),
    "integers": (loop(number=lambda loss: int(loss.item() / math.log(2))), "cut to integers"),
    "graphs": (loop(number=lambda loss: loss / math.log(2)), "still hold the graph"),
    "sum": (loop(reduction="sum"), "a sum over all values"),
    "SGD": (loop(make=torch.optim.SGD), "gradient descent"),
    "AdamW": (loop(make=torch.optim.AdamW), "AdamW"),
    "RMSprop": (loop(make=torch.optim.RMSprop), "RMSprop"),
    "uphill": (loop(make=lambda p, lr: torch.optim.Adam(p, lr=lr, maximize=True)), "uphill"),
    "weight decay": (loop(make=lambda p, lr: torch.optim.Adam(p, lr=lr, weight_decay=0.1)), "than one plain step"),
    "clipped": (loop(make=clipped), "than one plain step"),
    "own learning rate": (loop(lr=lambda lr: 1e-3), "0.05 times"),
    "half the learning rate": (loop(lr=lambda lr: lr / 2), "0.5 times"),
    "a new optimiser": (loop(anew=True), "make it once"),
    "after the step": (loop(late=True), "measured after the step"),
    "batches of 16": (loop(batches=lambda images, size: images.split(16)), "you return 2 numbers."),
    "one batch": (loop(batches=lambda images, size: [images]), "you return 1 number."),
    "single images": (loop(batches=lambda images, size: images.split(1)), "you return 23 numbers."),
    "the last one dropped": (loop(batches=lambda images, size: images.split(size)[:-1]), "the last batch is smaller"),
    "twice": (loop(batches=lambda images, size: images.split(size) * 2), "you return 10 numbers"),
    "reversed": (loop(batches=lambda images, size: images.flip(0).split(size)), "begin with the last image"),
    "shuffled": (
        loop(batches=lambda images, size: images[torch.randperm(len(images))].split(size)),
        "Already the first loss differs",
    ),
    "scaled twice": (loop(given=lambda x: x / 255), "scales them once more"),
    "neighbour as target": (loop(target=lambda x: x[:, 0].long().roll(1, -1)), "left neighbour"),
    "another image as target": (loop(target=lambda x: x[:, 0].long().roll(1, 0)), "another image"),
    "a copy": (loop(begin=copy.deepcopy), "you train a copy"),
    "evaluation mode": (loop(begin=lambda model: model.eval()), "in evaluation mode"),
    "the mean": (loop(end=lambda bits: sum(bits) / len(bits)), "You return float"),
    "sorted": (loop(end=sorted), "in another order"),
    "running means": (
        loop(end=lambda bits: [sum(bits[: k + 1]) / (k + 1) for k in range(len(bits))]),
        "running means",
    ),
    "always batches of 5": (loop(batches=lambda images, size: images.split(5)), "asked for batches of 23"),
    "always 0.02": (loop(lr=lambda lr: 0.02), "Right for one learning rate"),
    "blackened": (blackened, "changed the images"),
}


@pytest.mark.parametrize("name", WRONG_LOOPS)
def test_a_wrong_loop_is_named_for_what_it_is(capsys, name):
    answer, words = WRONG_LOOPS[name]
    check_train(answer)
    said = capsys.readouterr().out
    assert said.startswith("✗") and words in said, said


def without_backward(model, images, batch_size, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr)
    bits = []
    for start in range(0, len(images), batch_size):
        x = images[start : start + batch_size]
        loss = -model.log_prob(x).mean() / x[0].numel()
        for parameter, gradient in zip(
            model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
        ):
            parameter.grad = gradient
        optimizer.step()
        bits.append(loss.detach() / math.log(2))
    return torch.stack(bits)


def with_a_loader(model, images, batch_size, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    bits = ()
    for x in torch.utils.data.DataLoader(images, batch_size=batch_size):
        optimizer.zero_grad(set_to_none=False)
        loss = torch.nn.CrossEntropyLoss()(model(x), x.squeeze(1).long()) / math.log(2)
        (loss * math.log(2)).backward()
        optimizer.step()
        bits += (float(loss.detach()),)
    return bits


@pytest.mark.parametrize("answer", [loop(), loop(begin=lambda model: model.train()), without_backward, with_a_loader])
def test_right_loops_pass(capsys, answer):
    check_train(answer)
    assert capsys.readouterr().out.startswith("✓")


# -- a model without a network --------------------------------------------------------------------


def left(x):
    return F.pad(x[..., :-1].long(), (1, 0))


def above(x):
    return F.pad(x[..., :-1, :].long(), (0, 0, 1, 0))


def both(x):
    return left(x) // 16 * 16 + above(x) // 16


def counted(context, contexts, begin=0.1, end=lambda p: p.log()):
    def baseline(train):
        pairs = (context(train) * 256 + train.long()).flatten()
        counts = begin + pairs.bincount(minlength=contexts * 256).view(contexts, 256).double()
        table = end(counts / counts.sum(1, keepdim=True))
        return lambda x: table[context(x)[:, 0]].movedim(-1, 1)

    return baseline


def averaged(train):
    parts = [counted(both, 256)(train), counted(left, 256)(train)]
    return lambda x: torch.stack([part(x).exp() for part in parts]).mean(0).log()


def mean_of_the_image(x):
    return (x.double().mean((2, 3), keepdim=True) // 16).long().expand(x.shape)


def mean_of_the_batch(x):
    return (x.double().mean(0, keepdim=True) // 16).long().expand(x.shape)


@pytest.mark.parametrize(
    "answer",
    [
        counted(both, 256),
        averaged,
        counted(lambda x: both(x) + 256 * (torch.arange(28)[:, None] // 7), 1024),
        counted(
            lambda x: (left(x) // 22 * 12 + above(x) // 22) * 12 + F.pad(above(x)[..., 1:], (0, 1)) // 22, 1728, 0.02
        ),
    ],
)
def test_predictors_better_than_the_left_neighbour_pass(capsys, answer):
    check_baseline(answer)
    assert capsys.readouterr().out.startswith("✓")


@pytest.mark.parametrize(
    "answer, words",
    [
        (counted(lambda x: 0 * x.long(), 1), "the left neighbour alone needs"),
        (counted(left, 256, begin=1), "the left neighbour alone needs"),
        (counted(lambda x: both(x) // 16 * 16 + x.long() // 16, 256), "It leaks"),
        (counted(lambda x: both(x) // 16 * 16 + F.pad(x[..., 1:], (0, 1)).long() // 16, 256), "It leaks"),
        (counted(lambda x: both(x) // 16 * 16 + F.pad(x[..., 1:, :], (0, 0, 0, 1)).long() // 16, 256), "It leaks"),
        (counted(lambda x: x.roll(1, -1).long() // 16 * 16 + above(x) // 16, 256), "It leaks"),
        (counted(lambda x: left(x) // 16 * 16 + mean_of_the_image(x), 256), "It leaks"),
        (counted(lambda x: left(x) // 16 * 16 + mean_of_the_batch(x), 256), "It leaks"),
        (counted(both, 256, end=lambda p: p), "they must sum to 1"),
        (counted(both, 256, end=lambda p: -p.log()), "they must sum to 1"),
        (counted(both, 256, begin=0), "probability 0"),
        (lambda train: lambda x: torch.full((len(x), 256, 28, 28), torch.nan), "are NaN"),
        (lambda train: lambda x: torch.zeros(len(x), 28, 28, 256), "log-probabilities (100, 256, 28, 28)"),
        (lambda train: lambda x: torch.zeros(len(x)), "log-probabilities (100, 256, 28, 28)"),
        (lambda train: 1.2, "return a function"),
        (lambda train: lambda x: x / 0 + oops, "raised NameError"),  # noqa: F821
    ],
)
def test_a_predictor_that_will_not_do_is_told_why(capsys, answer, words):
    check_baseline(answer)
    said = capsys.readouterr().out
    assert said.startswith("✗") and words in said, said


@pytest.mark.parametrize("check", [check_train, check_baseline])
@pytest.mark.parametrize("answer", [..., None, lambda *given: ..., lambda *given: None])
def test_no_loop_and_no_predictor_are_not_solved_yet(capsys, check, answer):
    check(answer)
    assert capsys.readouterr().out.startswith("✎ Not solved yet")
