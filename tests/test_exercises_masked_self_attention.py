"""Typical answers to the exercises of notebook 13: each wrong one is named for what it is."""

import pytest
import torch
from torch.nn import functional as F

from pixelhelpers.exercises import check_allowed_places, check_attention_step, check_sparse_mask, check_stored_bytes


def verdict(capsys, check, answer) -> str:
    check(answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("check", [check_allowed_places, check_attention_step, check_stored_bytes])
@pytest.mark.parametrize("stub", [None, ..., lambda *arguments: None, lambda *arguments: ...])
def test_unsolved_stub_gets_a_friendly_line(capsys, check, stub):
    assert verdict(capsys, check, stub).startswith("✎ Not solved yet")


# Which places a query may see


def ones(height, width):
    return torch.ones(height * width, height * width + 1, dtype=torch.bool)


def by_place(earlier, start_at_end=False):
    """From a rule for pixels, (row, column of the query, row, column of the key), to a mask with a start token."""

    def answer(height, width):
        rows, columns = torch.arange(height * width) // width, torch.arange(height * width) % width
        allowed = earlier(rows[:, None], columns[:, None], rows, columns)
        start = torch.ones(len(rows), 1, dtype=torch.bool)
        return torch.cat((allowed, start) if start_at_end else (start, allowed), 1)

    return answer


def raster(row, column, key_row, key_column):
    return (key_row < row) | ((key_row == row) & (key_column < column))


@pytest.mark.parametrize(
    "answer",
    [
        lambda h, w: ones(h, w).tril(),
        lambda h, w: torch.arange(h * w + 1) <= torch.arange(h * w)[:, None],
        by_place(raster),
        lambda h, w: ~torch.triu(torch.ones(h * w, h * w + 1), 1).bool(),
    ],
)
def test_allowed_places_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_allowed_places, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ones, "the future too"),
        (lambda h, w: ones(h, w).tril(1), "sees its own pixel"),
        (lambda h, w: ones(h, w).tril(-1), "misses the pixel right before it"),
        (lambda h, w: ones(h, w).triu(1), "upside down"),
        (lambda h, w: ones(h, w).triu(), "upper triangle"),
        (lambda h, w: ones(h, w).triu(2), "upper triangle"),
        (lambda h, w: ones(h, w).tril() & (torch.arange(h * w + 1) > 0), "start token is shut"),
        (by_place(raster, start_at_end=True), "stands at the end"),
        (by_place(lambda r, c, kr, kc: (kc < c) | ((kc == c) & (kr < r))), "order of columns"),
        (by_place(lambda r, c, kr, kc: kr < r), "Only the rows above"),
        (by_place(lambda r, c, kr, kc: (kr == r) & (kc < c)), "Only the own row"),
        (
            by_place(lambda r, c, kr, kc: (kr <= r) & (kc <= c) & ~((kr == r) & (kc == c))),
            "columns to the right are missing",
        ),
        (by_place(lambda r, c, kr, kc: kr < 0 * r * c * kc), "Only the start token"),
        (lambda h, w: ones(h, w)[:, 1:].tril(), "the start token is a place, too"),
        (lambda h, w: ones(h, w).T.tril(), "queries are the rows"),
        (lambda h, w: torch.ones(h * w + 1, h * w + 1).tril().bool(), "it asks nothing"),
        (lambda h, w: ones(h, w)[0], "a row for each pixel"),
        (lambda h, w: torch.zeros(h * w, h * w + 1).masked_fill(~ones(h, w).tril(), -torch.inf), "for adding"),
        (lambda h, w: ones(h, w).tril().float(), "return bool"),
        (lambda h, w: ones(h, w).tril(1) & (torch.arange(h * w + 1) > 0), "shut, and a query sees its own pixel"),
        (lambda h, w: ones(h, w).tril().numpy(), "return a torch tensor of shape"),
        (lambda h, w: ones(h, w).tril(-2), "the start token must be open to the query of pixel 0"),
        (lambda h, w: ones(h, w).tril(2), "pixel 0 must not be open to the query of pixel 0"),
        (lambda h, w: [[True]], "You return list: return a torch tensor"),
        (lambda h, w: h.no_such, "raised AttributeError"),
    ],
)
def test_allowed_places_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_allowed_places, answer)
    assert said.startswith("✗") and words in said


# One step with a cache


def grown(key, value, keys, values):
    return torch.cat((keys, key[:, None]), 1), torch.cat((values, value[:, None]), 1)


def products(query, keys):
    return (keys @ query[..., None])[..., 0]


def step(weigh=None, see=lambda keys, values: (keys, values), put=grown):
    """A step that differs from the right one in how it weighs, what it sees, or what it puts into the cache."""
    weigh = weigh or (lambda p, d: (p / d**0.5).softmax(-1))

    def answer(query, key, value, keys, values):
        seen_keys, seen_values = see(keys, values)
        weights = weigh(products(query, seen_keys), query.shape[-1])
        return (weights[..., None] * seen_values).sum(1), *put(key, value, keys, values)

    return answer


def appends_first(query, key, value, keys, values):
    keys, values = grown(key, value, keys, values)
    return step()(query, key, value, keys, values)[0], keys, values


def by_pytorch(query, key, value, keys, values):
    return F.scaled_dot_product_attention(query[:, None], keys, values)[:, 0], *grown(key, value, keys, values)


def looks_like_the_first(query, key, value, keys, values):
    result = F.scaled_dot_product_attention(query[:, None], keys, values, is_causal=True)
    return result[:, 0], *grown(key, value, keys, values)


def looks_with_its_key(query, key, value, keys, values):
    return step()(key, key, value, keys, values)


@pytest.mark.parametrize("answer", [step(), by_pytorch, lambda *given: list(step()(*given)), torch.no_grad()(step())])
def test_attention_step_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_attention_step, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (appends_first, "sees its own key and value"),
        (looks_like_the_first, "`is_causal=True` takes it for the first one"),
        (looks_with_its_key, "its query is what looks"),
        (
            lambda q, k, v, keys, values: (step()(q, k, v, keys, values)[0].float(), *grown(k, v, keys, values)),
            "make it like the query",
        ),
        (
            lambda q, k, v, keys, values: (
                step()(q, k, v, keys, values)[0] if keys.shape[1] != 2 else 0 * v,
                *grown(k, v, keys, values),
            ),
            "not for the second",
        ),
        (step(lambda p, d: p.softmax(-1)), "not divided by √d"),
        (step(lambda p, d: (p / d).softmax(-1)), "divided by d: divide by its root"),
        (step(lambda p, d: (p / (len(p) * d) ** 0.5).softmax(-1)), "*one head*"),
        (step(lambda p, d: (p / p.shape[-1] ** 0.5).softmax(-1)), "number of places"),
        (step(lambda p, d: (p / len(p) ** 0.5).softmax(-1)), "number of heads"),
        (step(lambda p, d: (p * d**0.5).softmax(-1)), "multiplied with √d"),
        (step(lambda p, d: (p / d**0.5).sigmoid()), "A sigmoid weighs each place by itself"),
        (step(lambda p, d: F.one_hot(p.argmax(-1), p.shape[-1]).to(p)), "Only the place with the largest product"),
        (
            lambda q, k, v, keys, values: (
                step()(q, k, v, keys, values)[0].mean(0).expand_as(q),
                *grown(k, v, keys, values),
            ),
            "the mean of all",
        ),
        (lambda q, *rest: step()(q.flip(0), *rest), "in another order"),
        (step(lambda p, d: (p / d**0.5).softmax(0)), "runs over the heads"),
        (step(lambda p, d: p / d**0.5), "softmax is missing"),
        (step(lambda p, d: torch.full_like(p, 1 / p.shape[-1])), "All places weigh the same"),
        (step(see=lambda keys, values: (keys, keys)), "keys are added up"),
        (step(lambda p, d: (p.sum(0, keepdim=True).expand_as(p) / d**0.5).softmax(-1)), "heads are mixed"),
        (step(see=lambda keys, values: (keys[:, 1:], values[:, 1:])), "start token is left out"),
        (step(see=lambda keys, values: (keys[:, :-1], values[:, :-1])), "newest place in the cache is left out"),
        (step(put=lambda key, value, keys, values: (keys, values)), "did not grow"),
        (step(put=lambda key, value, keys, values: grown(value, key, keys, values)), "swapped"),
        (
            step(put=lambda k, v, keys, values: (torch.cat((k[:, None], keys), 1), torch.cat((v[:, None], values), 1))),
            "newest place stands first",
        ),
        (step(put=lambda key, value, keys, values: grown(0 * key, value, keys, values)), "What is in the caches"),
        (step(put=lambda k, v, keys, values: (F.pad(keys, (0, 0, 0, 2)), values)), "one more place than before"),
        (lambda q, k, v, keys, values: step()(q, k, v, keys, values)[0], "return three"),
        (
            lambda q, k, v, keys, values: (step()(q, k, v, keys, values)[0].flatten(), *grown(k, v, keys, values)),
            "one vector per head",
        ),
        (step(lambda p, d: 2 * (p / d**0.5).softmax(-1)), "do they add up to 1"),
        (
            lambda q, k, v, keys, values: (
                step()(q, k, v, keys, values)[0] if keys.shape[1] > 1 else 0 * v,
                *grown(k, v, keys, values),
            ),
            "it must get that value",
        ),
        (lambda q, k, v, keys, values: (keys @ q, keys, values), "raised RuntimeError"),
    ],
)
def test_attention_step_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_attention_step, answer)
    assert said.startswith("✗") and words in said


# What hand-written attention stores


@pytest.mark.parametrize("answer", [lambda s, h, n: 4 * s**4 * h * n, lambda s, h, n: torch.tensor(4.0 * s**4 * h * n)])
def test_stored_bytes_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_stored_bytes, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda s, h, n: s**4 * h * n, "not their bytes"),
        (lambda s, h, n: 8 * s**4 * h * n, "a float64's"),
        (lambda s, h, n: 2 * 4 * s**4 * h * n, "products *and* weights"),
        (lambda s, h, n: 2 * s**2 * (s**2 - 1) * h * n, "so is the diagonal"),
        (lambda s, h, n: 4 * (s**2 + 1) ** 2 * h * n, "adds no place, and it asks nothing"),
        (lambda s, h, n: 4 * s**4 * h**2 * n, "heads enter once"),
        (lambda s, h, n: 12 * s**4 * h * n, "How many queries"),
        (lambda s, h, n: 4 * 784**2 * h * n, "How many queries"),
        (lambda s, h, n: 4 * s**2 * h * n, "enters twice"),
        (lambda s, h, n: s**2 * h * n, "enters twice (and"),
        (lambda s, h, n: 4 * s**3 * h * n, "not at rows"),
        (lambda s, h, n: 4 * s**4 * n, "Each head"),
        (lambda s, h, n: 4 * s**4 * h, "Each image"),
        (lambda s, h, n: 4 * s**4, "Each head and each image"),
        (lambda s, h, n: 2 * s**4 * h * n, "shut half is stored, too"),
        (lambda s, h, n: 2 * s**2 * (s**2 + 1) * h * n, "shut half is stored, too"),
        (lambda s, h, n: 4 * s**2 * (s**2 + 1) * h * n, "does not add a place"),
        (lambda s, h, n: 4 * s**4 * h * n / 1024, "in kilobytes"),
        (lambda s, h, n: 4 * s**4 * h * n / 2**20, "in megabytes"),
        (lambda s, h, n: 4 * s**4 * h * n / 1e6, "in megabytes"),
        (lambda s, h, n: 4 * s**4 * h * n / 2**30, "in gigabytes"),
        (lambda s, h, n: 4 * s**4 * h * n / 1e9, "in gigabytes"),
        (lambda s, h, n: 32 * s**4 * h * n, "32 bits"),
        (lambda s, h, n: s, "How many queries"),
        (lambda s, h, n: s / 1e6, "you return 2.8e-05"),
        (lambda s, h, n: "much", "return one number"),
        (lambda s, h, n: s.no_such, "raised AttributeError"),
    ],
)
def test_stored_bytes_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_stored_bytes, answer)
    assert said.startswith("✗") and words in said


# Sixty places


def sparse(keep):
    def answer(side):
        place = torch.arange(side * side)
        query, key = place[:, None], place[None]
        return (key <= query) & keep(query, key, query - key, side)

    return answer


strided = sparse(lambda q, k, back, side: (back < side) | (back % side == 0))


@pytest.mark.parametrize(
    "answer",
    [
        strided,
        sparse(lambda q, k, back, side: (back < 25) | (back % 25 == 0)),
        sparse(lambda q, k, back, side: (back <= 29) | (back % 30 == 0)),
        sparse(lambda q, k, back, side: (q // side == k // side) | (k % side == side - 1)),
        lambda side: torch.tensor(
            [[j <= i and (i - j < side or (i - j) % side == 0) for j in range(side**2)] for i in range(side**2)]
        ),
    ],
)
def test_sparse_mask_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_sparse_mask, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (sparse(lambda q, k, back, side: (q // side == k // side) | (back % side == 0)), "a hole like that"),
        (sparse(lambda q, k, back, side: back >= 0), "Pixel 60 may see 61 places"),
        (sparse(lambda q, k, back, side: back < 60), "are not connected"),
        (sparse(lambda q, k, back, side: back < side), "are not connected"),
        (sparse(lambda q, k, back, side: back % side == 0), "are not connected"),
        (sparse(lambda q, k, back, side: (back < side // 2) | (back % side == 0)), "are not connected"),
        (sparse(lambda q, k, back, side: (k < 30) | (back < 30)), "are not connected"),
        (sparse(lambda q, k, back, side: q // side - k // side < 2), "are not connected"),
        (sparse(lambda q, k, back, side: (q // side == k // side) | (k % side == 0)), "are not connected"),
        (sparse(lambda q, k, back, side: back & (back - 1) == 0), "are not connected"),
        (sparse(lambda q, k, back, side: back == 0), "are not connected"),
        (lambda side: strided(side) & ~torch.eye(side**2).bool(), "no place at all"),
        (lambda side: torch.zeros(side**2, side**2).bool(), "no place at all"),
        (lambda side: strided(side) | strided(side).T, "Pixel 0 may see place 1, which is later"),
        (lambda side: strided(side).T, "have changed places"),
        (lambda side: strided(side).float(), "return bool"),
        (lambda side: strided(side).view(side, side, -1), "a row for each query"),
        (lambda side: F.pad(strided(side), (1, 0), value=True), "a row for each query"),
        (lambda side: strided(8), "a row for each query"),
    ],
)
def test_sparse_mask_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_sparse_mask, answer)
    assert said.startswith("✗") and words in said
