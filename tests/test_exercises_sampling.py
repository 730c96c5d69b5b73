"""Typical answers to the exercises of notebook 04: each wrong one is named for what it is."""

import pytest
import torch

from pixelhelpers.exercises import check_completion, check_fill, check_paint, check_temperature, check_top_p
from pixelhelpers.sampling import draw


def verdict(capsys, check, answer) -> str:
    check(answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("check", [check_temperature, check_top_p, check_completion, check_paint, check_fill])
@pytest.mark.parametrize("stub", [None, ..., lambda *arguments: None, lambda *arguments: ...])
def test_unsolved_stub_gets_a_friendly_line(capsys, check, stub):
    assert verdict(capsys, check, stub).startswith("✎ Not solved yet")


# Temperature


def normalised(values):
    return values / values.sum(-1, keepdim=True)


def in_place(probs, T):
    probs.pow_(1 / T)
    return probs / probs.sum(-1, keepdim=True)


@pytest.mark.parametrize(
    "answer",
    [
        lambda probs, T: (probs.log() / T).softmax(-1),
        lambda probs, T: torch.softmax(probs.clamp(min=1e-30).log() / T, dim=1),
        lambda probs, T: draw_with(probs, T),
        lambda probs, T: normalised((probs / probs.amax(-1, keepdim=True)) ** (1 / T)),
        lambda probs, T: torch.distributions.Categorical(logits=probs.log() / T).probs,
        lambda probs, T: torch.stack([(row.log() / T).softmax(0) for row in probs]),
    ],
)
def test_temperature_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_temperature, answer).startswith("✓")


def draw_with(probs, T):
    powers = probs.double() ** (1 / T)
    return powers / powers.sum(-1, keepdim=True)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda probs, T: probs, "temperature does nothing"),
        (
            lambda probs, T: probs / T / (probs / T).sum(-1, keepdim=True),
            "temperature does nothing",
        ),
        (lambda probs, T: probs / T, "sum to 2"),
        (lambda probs, T: probs ** (1 / T), "sum to 0.38"),
        (lambda probs, T: (probs.log() * T).softmax(-1), "Upside down"),
        (lambda probs, T: (probs / T).softmax(-1), "you gave it probabilities"),
        (lambda probs, T: (probs ** (1 / T)).softmax(-1), "you gave it the powers"),
        (lambda probs, T: (probs.log() / T).softmax(0), "over the images"),
        (lambda probs, T: torch.exp(probs * probs.log() / T), "NaN"),
        (lambda probs, T: probs ** (1 / T) / (probs ** (1 / T)).sum(-1, keepdim=True), "underflow"),
        (lambda probs, T: (probs.log() / T).log_softmax(-1), "these are logarithms"),
        (lambda probs, T: probs.log() / T, "these are logarithms"),
        (lambda probs, T: (probs.log2() / T).softmax(-1), "base 2"),
        (lambda probs, T: (probs.log10() / T).softmax(-1), "base 10"),
        (lambda probs, T: (probs.log() / T**2).softmax(-1), "the square of that"),
        (lambda probs, T: (probs.log() / T**0.5).softmax(-1), "the root of that"),
        (lambda probs, T: (probs[:1].log() / T).softmax(-1).expand_as(probs), "the first row"),
        (lambda probs, T: probs ** (1 / T) / (probs ** (1 / T)).sum(), "the whole batch"),
        (lambda probs, T: ((probs + 1e-4).log() / T).softmax(-1), "0 to any power is 0"),
        (lambda probs, T: normalised(probs ** (1 / T)).nan_to_num(), "underflow"),
        (lambda probs, T: normalised(probs ** (1 / T)).nan_to_num(1 / 256), "Right for larger T"),
        (lambda probs, T: (probs.log() / max(T, 0.1)).softmax(-1), "Right for larger T"),
        (
            lambda probs, T: (
                (probs.log() / T).softmax(-1) if T > 0.1 else 1.0 * (probs == probs.amax(-1, keepdim=True))
            ),
            "That is the limit, T = 0",
        ),
        (
            lambda probs, T: (probs.log() / T).softmax(-1) if T > 0.1 else torch.eye(probs.shape[1])[probs.argmax(-1)],
            "That is the limit, T = 0",
        ),
        (in_place, "changed the probabilities"),
        (lambda probs, T: probs[0], "keep the shape"),
        (lambda probs, T: 1.0, "return a tensor"),
        (lambda probs, T: torch.ones_like(probs) / 4, "0 to any power is 0"),
        (lambda probs, T: probs / 0 + oops, "raised NameError"),  # noqa: F821
    ],
)
def test_temperature_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_temperature, answer)


# Top-p


def top_p(probs, p, extra=0, descending=True, exclusive=False, scatter=True, normalise=True):
    likely, level = probs.sort(-1, descending=descending)
    before = likely.cumsum(-1) - likely
    keep = likely.cumsum(-1) <= p if exclusive else before < p
    for _ in range(extra):
        keep = torch.cat([torch.ones_like(keep[:, :1]), keep[:, :-1]], dim=-1)
    kept = likely * keep
    if scatter:
        kept = torch.zeros_like(probs).scatter(-1, level, kept)
    return kept / kept.sum(-1, keepdim=True) if normalise else kept


def by_level(probs, p):
    kept = probs * (probs.cumsum(-1) - probs < p)
    return kept / kept.sum(-1, keepdim=True)


def with_loop(probs, p):
    result = torch.zeros_like(probs)
    for row, target in zip(probs, result, strict=True):
        total = 0.0
        for level in row.argsort(descending=True):
            target[level] = row[level]
            total += row[level]
            if total >= p:
                break
    return result / result.sum(-1, keepdim=True)


def by_count(probs, p):
    likely, level = probs.double().sort(dim=-1, descending=True, stable=True)
    needed = (likely.cumsum(-1) - likely < p).sum(-1, keepdim=True)
    kept = torch.zeros_like(likely).scatter(-1, level, (torch.arange(probs.shape[1]) < needed).double())
    return normalised(probs * kept)


def by_logits(probs, p):
    likely, level = probs.sort(-1, descending=True)
    removed = likely.cumsum(-1) >= p
    removed = torch.cat([torch.zeros_like(removed[:, :1]), removed[:, :-1]], 1)
    return probs.log().masked_fill(torch.zeros_like(removed).scatter(-1, level, removed), -torch.inf).softmax(-1)


def kept_where(mask):
    """Keeps and normalises the levels of `mask(probs, p)`."""
    return lambda probs, p: normalised(probs * mask(probs, p))


def most_likely(probs, count):
    return torch.zeros_like(probs).scatter(-1, probs.topk(count, -1)[1], 1.0)


def counts(probs, p):
    return (top_p(probs, p) > 0).sum(-1)


@pytest.mark.parametrize("answer", [top_p, with_loop, by_count, by_logits])
def test_top_p_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_top_p, answer).startswith("✓")


def keep_in_place(probs, p):
    probs[probs < 0.25] = 0
    return probs / probs.sum(-1, keepdim=True)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda probs, p: top_p(probs, p, normalise=False), "divide by what is left"),
        (lambda probs, p: top_p(probs, p, scatter=False), "still in sorted order"),
        (lambda probs, p: top_p(probs, p, descending=False), "*least* likely"),
        (lambda probs, p: top_p(probs, p, exclusive=True), "even when it alone exceeds p"),
        (lambda probs, p: top_p(probs, 0.35), "use the argument"),
        (lambda probs, p: top_p(probs, p - 0.2), "crosses p belongs to the set"),
        (lambda probs, p: top_p(probs, p, extra=1), "one level too many"),
        (by_level, "order of the levels"),
        (lambda probs, p: torch.where(probs >= p, probs, 0), "nothing is left"),
        (
            lambda probs, p: (
                torch.where(probs >= 1 - p, probs, 0) / probs.where(probs >= 1 - p, 0).sum(-1, keepdim=True)
            ),
            "p is compared with single probabilities",
        ),
        (lambda probs, p: probs, "Nothing is cut off"),
        (lambda probs, p: top_p(probs, 0.6), "use the argument"),
        (lambda probs, p: top_p(probs, min(p, 0.95)), "With p = 1"),
        (kept_where(lambda probs, p: most_likely(probs, 2)), "That is top-k"),
        (kept_where(lambda probs, p: most_likely(probs, min(10, probs.shape[1]))), "too many"),
        (kept_where(lambda probs, p: top_p(probs[:1], p) > 0), "the set of the first row in every row"),
        (kept_where(lambda probs, p: most_likely(probs, int(counts(probs, p).max()))), "needs most"),
        (kept_where(lambda probs, p: most_likely(probs, int(counts(probs, p).min()))), "needs fewest"),
        (kept_where(lambda probs, p: probs >= (1 - p) * probs.amax(-1, keepdim=True)), "min-p"),
        (kept_where(lambda probs, p: probs >= probs.quantile(1 - p, -1, keepdim=True)), "a quantile"),
        (kept_where(lambda probs, p: most_likely(probs, max(1, int(p * probs.shape[1])))), "a share of the levels"),
        (kept_where(lambda probs, p: most_likely(probs, 1)), "Only the most likely level"),
        (kept_where(lambda probs, p: top_p(probs, p) == 0), "the levels to forget"),
        (
            kept_where(lambda probs, p: top_p(probs.flatten()[None], p * len(probs)).view_as(probs) > 0),
            "all rows together",
        ),
        (lambda probs, p: top_p(probs.T, p).T, "over the images (axis 0)"),
        (lambda probs, p: top_p(probs, 1 - p), "what reaches 1 - p"),
        (lambda probs, p: top_p(probs, p) > 0, "which levels to keep"),
        (lambda probs, p: normalised(1.0 * (top_p(probs, p) > 0)), "equally likely"),
        (lambda probs, p: probs.where(top_p(probs, p) > 0, -torch.inf).softmax(-1), "softmax takes logarithms"),
        (lambda probs, p: top_p(probs, p + 1e-9), "already reach p exactly"),
        (lambda probs, p: top_p(probs, p) * p, "divide by what is left"),
        (keep_in_place, "changed the probabilities"),
        (lambda probs, p: probs[:, :2], "keep the shape"),
    ],
)
def test_top_p_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_top_p, answer)


# Completion


def paint(model, canvas, known, choose, by_columns=False):
    height, width = known.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    for row, column in sorted(places, key=lambda place: place[::-1]) if by_columns else places:
        if not known[row, column]:
            with torch.no_grad():
                probs = model(canvas)[:, :, row, column].softmax(1)
            canvas[:, 0, row, column] = choose(probs, row, column).to(canvas)
    return canvas


def numbers(uniform):
    return lambda probs, row, column: draw(probs, uniform[:, 0, row, column])


def in_turn(uniform):
    following = iter(uniform.flatten(1).T)
    return lambda probs, row, column: draw(probs, next(following))


def right(model, given, known, uniform):
    return paint(model, given * known, known, numbers(uniform))


def over_given(model, given, known, uniform):
    return paint(model, given, known, numbers(uniform))


def from_given(model, given, known, uniform):  # unknown pixels of `given` cannot act: right too
    return paint(model, given.clone(), known, numbers(uniform))


def free(model, given, known, uniform):
    return paint(model, torch.zeros_like(given), torch.zeros_like(known), numbers(uniform))


def pasted(model, given, known, uniform):
    return torch.where(known, given, free(model, given, known, uniform))


def one_look(model, given, known, uniform):
    with torch.no_grad():
        probs = model(given * known).softmax(1).movedim(1, -1)[:, None]
    return torch.where(known, given, draw(probs, uniform).to(given))


def multinomial(model, given, known, uniform):
    return paint(model, given * known, known, lambda probs, *at: torch.multinomial(probs, 1)[:, 0])


def greedy(model, given, known, uniform):
    return paint(model, given * known, known, lambda probs, *at: probs.argmax(1))


def columns_first(model, given, known, uniform):
    return paint(model, given * known, known, numbers(uniform), by_columns=True)


def mirrored(model, given, known, uniform):
    return paint(model, given * known, known, lambda probs, *at: draw(probs, 1 - uniform[:, 0, at[0], at[1]]))


def drawn(choose=None, look=lambda row, column: (row, column), scale=lambda x: x, soft=lambda z: z.softmax(1)):
    """Makes a learner's completion that goes right but for what is given here."""

    def complete(model, given, known, uniform):
        canvas = given.clone()
        for row, column in (~known).nonzero().tolist():
            with torch.no_grad():
                at = look(row, column)
                probs = soft(model(scale(canvas)))[:, :, at[0], at[1]]
            u = uniform[:, 0, row, column] if choose is None else choose(uniform, row, column)
            canvas[:, 0, row, column] = draw(probs, u).to(canvas)
        return canvas

    return complete


def blind(model, given, known, uniform):
    return paint(model, torch.zeros_like(given), known, numbers(uniform))


def blind_and_pasted(model, given, known, uniform):
    return torch.where(known, given, blind(model, given, known, uniform))


def from_the_end(model, given, known, uniform):
    canvas = given.clone()
    for row, column in (~known).nonzero().flip(0).tolist():
        with torch.no_grad():
            probs = model(canvas)[:, :, row, column].softmax(1)
        canvas[:, 0, row, column] = draw(probs, uniform[:, 0, row, column]).to(canvas)
    return canvas


def cropped(model, given, known, uniform):
    canvas = given.clone()
    for row, column in (~known).nonzero().tolist():
        with torch.no_grad():
            probs = model(canvas[:, :, : row + 1])[:, :, row, column].softmax(1)
        canvas[:, 0, row, column] = draw(probs, uniform[:, 0, row, column]).to(canvas)
    return canvas


def by_fixed_point(model, given, known, uniform):
    canvas, before = given * known, None
    while before is None or not torch.equal(canvas, before):
        before = canvas
        with torch.no_grad():
            probs = model(canvas).softmax(1)[:, None].movedim(2, -1)
        canvas = torch.where(known, given, draw(probs, uniform).to(given))
    return canvas


@pytest.mark.parametrize("answer", [right, from_given, cropped, by_fixed_point])
def test_completion_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_completion, answer).startswith("✓")


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda model, given, known, uniform: given.clone(), "nothing was drawn"),
        (lambda model, given, known, uniform: given * known, "all 0"),
        (lambda model, given, known, uniform: given[0], "return images"),
        (lambda model, given, known, uniform: right(model, given, known, uniform) / 3, "integers"),
        (
            lambda model, given, known, uniform: 3 - right(model, given, known, uniform),
            "have changed",
        ),
        (over_given, "`given` itself"),
        (free, "painted over"),
        (pasted, "pasted"),
        (one_look, "one look"),
        (multinomial, "torch.multinomial"),
        (greedy, "argmax"),
        (columns_first, "column by column"),
        (
            lambda *given: paint(given[0], given[1] * given[2], given[2], in_turn(given[3])),
            "`uniform` in turn",
        ),
        (mirrored, "1 - u"),
        (blind, "never copied from `given`"),
        (blind_and_pasted, "pasted"),
        (from_the_end, "is the last pixel drawn first"),
        (drawn(look=lambda row, column: (column, row)), "exchanged where you read the logits"),
        (drawn(look=lambda row, column: (row, max(column - 1, 0))), "the pixel to the left"),
        (drawn(choose=lambda u, row, column: u[:, 0, column, row]), "exchanged where you read `uniform`"),
        (drawn(choose=lambda u, row, column: u[:1, 0, row, column].expand(8)), "numbers of the first one"),
        (drawn(choose=lambda u, row, column: u.roll(1, -1)[:, 0, row, column]), "its left neighbour"),
        (drawn(choose=lambda u, row, column: torch.rand(8)), "torch.multinomial"),
        (drawn(scale=lambda x: x / 255), "You scale the image"),
        (drawn(scale=lambda x: x / 127.5 - 1), "You scale the image"),
        (drawn(scale=lambda x: 2 * x / 3 - 1), "You scale the image"),
        (drawn(soft=lambda z: z), "Are they logits"),
        (drawn(soft=lambda z: z.log_softmax(1)), "logarithms"),
        (drawn(soft=lambda z: z.softmax(0)), "runs over the images"),
        (drawn(soft=lambda z: (2 * z).softmax(1)), "the first one drawn that differs is row 3, column 2"),
        (lambda model, given, known, uniform: right(model, given, known, uniform).long(), "return torch.uint8"),
        (lambda model, given, known, uniform: right(model, given, ~known, uniform), "`known` says which to keep"),
        (
            lambda model, given, known, uniform: right(model, given, known, uniform)[:1].expand_as(given),
            "the completion of the first one",
        ),
        (
            lambda model, given, known, uniform: drawn()(
                model, given, known | (torch.arange(36) == 35).view(6, 6), uniform
            ),
            "Pixel (5, 5) is unknown",
        ),
    ],
)
def test_completion_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_completion, answer)


def test_checks_leave_the_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    check_completion(multinomial)
    assert torch.equal(torch.rand(3), expected)


# The sampler


def sampler(
    places=lambda height, width: [(row, column) for row in range(height) for column in range(width)],
    begin=lambda canvas: canvas.clone(),
    look=lambda row, column: (row, column),
    put=lambda row, column: (row, column),
    scale=lambda x: x,
    soft=lambda z: z.softmax(1),
    take=lambda choose, probs: choose(probs),
    end=lambda canvas: canvas,
    once=False,
):
    """Makes a learner's sampler; every argument is a way to go wrong."""

    @torch.no_grad()
    def paint(model, canvas, choose):
        canvas = begin(canvas)
        logits = model(scale(canvas))
        for row, column in places(*canvas.shape[2:]):
            logits = logits if once else model(scale(canvas))
            row_to, column_to = put(row, column)
            at = look(row, column)
            canvas[:, 0, row_to, column_to] = take(choose, soft(logits)[:, :, at[0], at[1]]).to(canvas)
        return end(canvas)

    return paint


def row_by_row(height, width):
    return [(row, column) for row in range(height) for column in range(width)]


@torch.no_grad()
def growing(model, canvas, choose):
    canvas = canvas.clone()
    for k in range(canvas[0].numel()):
        row, column = divmod(k, canvas.shape[3])
        seen = model(canvas[:, :, : row + 1])
        canvas[..., row, column] = choose(seen[:, :, row, column].softmax(1))[:, None].to(canvas)
    return canvas


@pytest.mark.parametrize(
    "answer",
    [
        sampler(),
        growing,
        sampler(soft=lambda z: z.log_softmax(1).exp()),
        sampler(begin=torch.zeros_like),
        sampler(begin=lambda canvas: canvas.long(), end=lambda canvas: canvas.byte()),
    ],
)
def test_samplers_that_are_right_pass(capsys, answer):
    assert verdict(capsys, check_paint, answer).startswith("✓")


@pytest.mark.parametrize(
    "answer, words",
    [
        (sampler(lambda h, w: sorted(row_by_row(h, w), key=lambda at: at[::-1])), "column by column"),
        (sampler(lambda h, w: row_by_row(h, w)[::-1]), "is the last pixel drawn first"),
        (sampler(lambda h, w: [(r, c if r % 2 == 0 else w - 1 - c) for r, c in row_by_row(h, w)]), "right to left"),
        (sampler(lambda h, w: row_by_row(h, w)[:-1]), "called 29 times"),
        (sampler(lambda h, w: row_by_row(h, h)), "called 25 times"),
        (sampler(once=True), "one look"),
        (sampler(look=lambda row, column: (row, max(column - 1, 0))), "the pixel to the left"),
        (sampler(look=lambda row, column: (row, min(column + 1, 5))), "the pixel to the right"),
        (sampler(look=lambda row, column: (column % 5, row)), "Row and column are exchanged"),
        (sampler(put=lambda row, column: (row, max(column - 1, 0))), "is each level written in its place"),
        (sampler(put=lambda row, column: (0, 0)), "is each level written in its place"),
        (sampler(scale=lambda x: x / 255), "the model scales it again"),
        (sampler(scale=lambda x: x / 1.5 - 1), "the model scales it again"),
        (sampler(soft=lambda z: z), "negative numbers"),
        (sampler(soft=lambda z: z.log_softmax(1)), "negative numbers"),
        (sampler(soft=lambda z: z.softmax(0)), "do not sum to 1"),
        (sampler(soft=lambda z: z.softmax(-1)), "do not sum to 1"),
        (sampler(soft=lambda z: z.softmax(1).softmax(1)), "applied twice"),
        (sampler(soft=lambda z: (2 * z).softmax(1)), "row 0, column 0 the probabilities"),
        (sampler(take=lambda choose, probs: probs.argmax(1)), "never called"),
        (sampler(take=lambda choose, probs: (choose(probs), choose(probs))[1]), "twice for each pixel"),
        (sampler(take=lambda choose, probs: choose(probs[:1]).expand(4)), "choose got (1, 4)"),
        (sampler(take=lambda choose, probs: choose(probs[0])), "choose got (4,)"),
        (sampler(take=lambda choose, probs: 3 - choose(probs)), "not what choose said"),
        (sampler(begin=lambda canvas: canvas), "start from a copy"),
        (sampler(begin=lambda canvas: canvas.long()), "return that"),
        (sampler(end=lambda canvas: canvas / 3), "return that"),
        (sampler(end=lambda canvas: canvas[:, 0]), "return images"),
        (lambda model, canvas, choose: canvas.clone(), "never called"),
        (lambda model, canvas, choose: (sampler()(model, canvas, choose), canvas.clone())[1], "as it was"),
    ],
)
def test_a_wrong_sampler_is_named_for_what_it_is(capsys, answer, words):
    said = verdict(capsys, check_paint, answer)
    assert said.startswith("✗") and words in said, said


# What comes later

EVERY = torch.cartesian_prod(*[torch.arange(3)] * 4).view(81, 1, 2, 2).to(torch.uint8)


def fitting(given, known):
    return EVERY[(EVERY == given)[:, :, known].flatten(1).all(1)]


@torch.no_grad()
def listed(model, given, known, count, power=1.0):
    every = fitting(given, known)
    return every[torch.multinomial((power * model.log_prob(every)).softmax(0), count, replacement=True)]


@torch.no_grad()
def freely(model, start, count, known):
    """Draws in raster order, leaving known pixels as they are."""
    canvas = start.expand(count, -1, -1, -1).clone()
    for row, column in (~known).nonzero().tolist():
        canvas[:, 0, row, column] = torch.multinomial(model(canvas)[:, :, row, column].softmax(1), 1)[:, 0].byte()
    return canvas


def clamped(model, given, known, count):
    return freely(model, given, count, known)


def kept_if_it_fits(model, given, known, count):
    found = torch.empty(0, 1, 2, 2, dtype=torch.uint8)
    while len(found) < count:
        free = freely(model, given, 20_000, torch.zeros_like(known))
        found = torch.cat([found, free[(free == given)[:, :, known].flatten(1).all(1)]])
    return found[:count]


@torch.no_grad()
def weighted(model, given, known, count):
    many = clamped(model, given, known, 20 * count)
    log_p = model(many).log_softmax(1).gather(1, many.long())
    return many[torch.multinomial(log_p[:, :, known].flatten(1).sum(1).softmax(0), count, replacement=True)]


@torch.no_grad()
def by_turns(model, given, known, count, rounds=15):
    images = clamped(model, given, known, count)
    for _ in range(rounds):
        for row, column in (~known).nonzero().tolist():
            options = images.repeat(3, 1, 1, 1, 1)
            options[:, :, 0, row, column] = torch.arange(3, dtype=torch.uint8)[:, None]
            probs = torch.stack([model.log_prob(option) for option in options], 1).softmax(1)
            images[:, 0, row, column] = torch.multinomial(probs, 1)[:, 0].byte()
    return images


@pytest.mark.parametrize("answer", [listed, kept_if_it_fits, weighted, by_turns])
def test_exact_draws_pass(capsys, answer):
    assert verdict(capsys, check_fill, answer).startswith("✓")


@pytest.mark.parametrize(
    "answer, words",
    [
        (clamped, "clamped"),
        (lambda *given: by_turns(*given, rounds=0), "clamped"),
        (lambda *given: listed(*given, power=0.0), "not equally probable"),
        (lambda *given: listed(*given, power=2.0), "to the power 2"),
        (lambda *given: listed(*given, power=0.5), "to the power 0.5"),
        (lambda *given: listed(*given, power=0.8), "times in 3,000"),
        (lambda m, given, known, n: freely(m, given, n, torch.zeros_like(known)), "another level than the one"),
        (lambda m, given, known, n: listed(m, given, ~known, n), "another level than the one"),
        (lambda m, given, known, n: given.expand(n, -1, -1, -1), "Every draw is the same"),
        (lambda m, given, known, n: listed(m, given, known, 1).expand(n, -1, -1, -1), "Every draw is the same"),
        (lambda m, given, known, n: listed(m, given, known, n // 2), "(1500, 1, 2, 2)"),
        (lambda m, given, known, n: listed(m, given, known, n).float(), "images are torch.uint8"),
        (lambda m, given, known, n: listed(m, given, known, n)[:, 0], "(3000, 2, 2)"),
        (lambda m, given, known, n: fitting(given, known)[torch.arange(n) % len(fitting(given, known))], "not equally"),
    ],
)
def test_draws_that_are_not_exact_are_told_what_they_are(capsys, answer, words):
    said = verdict(capsys, check_fill, answer)
    assert said.startswith("✗") and words in said, said
