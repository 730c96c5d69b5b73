"""What must hold of what a network's output means."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from pixelhelpers.distributions import ROWS, Categorical, DiscretizedLogisticMixture, categorical_log_prob


@pytest.mark.parametrize("rows", [1, 7, ROWS, 2 * ROWS + 3])
@pytest.mark.parametrize("levels", [2, 256])
def test_log_prob_and_its_gradient_are_those_of_cross_entropy(rows, levels):
    torch.manual_seed(0)
    logits = (5 * torch.randn(rows, levels, dtype=torch.float64)).requires_grad_()
    chosen = torch.randint(levels, (rows,))
    weights = torch.randn(rows, dtype=torch.float64)
    expected = -F.cross_entropy(logits, chosen, reduction="none")
    (expected_grad,) = torch.autograd.grad(expected @ weights, logits)
    got = categorical_log_prob(logits, chosen)
    (grad,) = torch.autograd.grad(got @ weights, logits)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(grad, expected_grad)


def test_log_prob_changes_neither_logits_nor_a_second_backward_pass():
    logits = torch.randn(5, 4, requires_grad=True)
    before = logits.detach().clone()
    total = categorical_log_prob(logits, torch.zeros(5, dtype=torch.long)).sum()
    first = torch.autograd.grad(total, logits, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(total, logits)[0], first)
    assert torch.equal(logits, before)


def test_a_hopeless_level_has_a_finite_cost():
    logits = torch.tensor([[0.0, 300.0]], requires_grad=True)
    log_prob = categorical_log_prob(logits, torch.tensor([0]))
    log_prob.sum().backward()
    assert log_prob.item() == -300 and logits.grad.isfinite().all()


def test_pmf_is_a_softmax():
    pmf = Categorical(logits=torch.randn(3, 4, 7)).pmf()
    assert pmf.shape == (3, 4, 7)
    torch.testing.assert_close(pmf.sum(-1), torch.ones(3, 4))


# -- the mixture of logistics ---------------------------------------------------------------------------


def mixture(*batch, components=5, levels=256, colour=False, dtype=torch.float32, wide=1.0, seed=0):
    """A random mixture; `wide` stretches means and log-scales (7: to the ends of what is allowed)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    shape = (*batch, 3, components) if colour else (*batch, components)
    parameters = [2 * normal(*batch, components), wide * normal(*shape), (wide * normal(*shape) - 2).clamp(-7, 7)]
    parameters += [normal(*shape)] if colour else []
    return DiscretizedLogisticMixture(*(p.to(dtype) for p in parameters), levels=levels)


EXTREME = [
    (mean, log_scale, levels)
    for mean in (-1e4, -3.0, -1.0, -0.5, 0.0, 2 / 255, 1.0, 1.01, 50.0)
    for log_scale in (-7.0, -4.5, -2.0, 0.0, 3.0, 7.0)
    for levels in (2, 3, 256)
]


@pytest.mark.parametrize("wide", [1.0, 3.0, 7.0])
@pytest.mark.parametrize("levels", [2, 3, 16, 256])
def test_probabilities_sum_to_one_and_are_what_log_prob_says(levels, wide):
    pixels = mixture(2000, levels=levels, wide=wide)
    pmf = pixels.pmf()
    assert pmf.shape == (2000, levels) and (pmf >= 0).all()
    assert (pmf.sum(-1) - 1).abs().max() < 1e-5
    log_prob = torch.stack([pixels.log_prob(torch.full((2000,), level)) for level in range(levels)], -1)
    likely = pmf > 1e-30  # below, float32 has no probabilities, but log-probabilities it has
    torch.testing.assert_close(log_prob[likely], pmf[likely].log(), rtol=1e-5, atol=1e-5)
    assert log_prob.isfinite().all() and (log_prob[~likely] < -60).all() and (log_prob <= 0).all()


@pytest.mark.parametrize(("mean", "log_scale", "levels"), EXTREME, ids=str)
def test_a_single_extreme_logistic_has_all_its_mass_and_finite_gradients(mean, log_scale, levels):
    parameters = [torch.tensor([[value]], requires_grad=True) for value in (0.0, mean, log_scale)]
    pixel = DiscretizedLogisticMixture(*parameters, levels=levels)
    assert float(pixel.pmf().detach().sum()) == pytest.approx(1, abs=1e-5)
    log_prob = pixel.log_prob(torch.arange(levels))
    assert log_prob.isfinite().all()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(log_prob.sum(), parameters))


def reference(means, log_scales, logits, levels):
    """The log-probability of every level in float64, `[N, levels]`, from SciPy where that does not cancel."""
    means, scales = means.double().numpy(), np.exp(log_scales.double().numpy())
    edges = (np.arange(levels + 1) - 0.5) * 2 / (levels - 1) - 1
    a, b = (
        (edge[:, None] - means[:, None]) / scales[:, None]
        for edge in (np.append(-np.inf, edges[1:-1]), np.append(edges[1:-1], np.inf))
    )
    bins = stats.logistic.cdf(b) - stats.logistic.cdf(a)
    with np.errstate(invalid="ignore", over="ignore"):
        exact = -np.logaddexp(0, -b) - np.logaddexp(0, a) + np.log1p(-np.exp(a - b))
    with np.errstate(divide="ignore"):
        log_bins = np.where(bins > 1e-3, np.log(bins), exact)
    weights = logits.double().log_softmax(-1).numpy()[:, None]
    return torch.from_numpy(np.logaddexp.reduce(log_bins + weights, -1))


@pytest.mark.parametrize("wide", [1.0, 7.0])
@pytest.mark.parametrize("levels", [3, 256])
def test_the_likelihood_is_that_of_a_reference_in_double_precision(levels, wide):
    pixels = mixture(500, levels=levels, wide=wide)
    expected = reference(pixels.means, pixels.log_scales, pixels.logits, levels)
    got = torch.stack([pixels.log_prob(torch.full((500,), level)) for level in range(levels)], -1).double()
    assert ((got - expected).abs() <= 1e-5 * expected.abs().clamp(min=1)).all()
    # Per value of a whole image, what training sees: relative 1e-5 of the likelihood itself.
    torch.testing.assert_close(got.sum(0), expected.sum(0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("levels", [3, 256])
def test_colour_is_the_chain_rule_of_its_conditionals(levels):
    pixels = mixture(300, levels=levels, colour=True, dtype=torch.float64)
    value = torch.randint(levels, (300, 3), generator=torch.Generator().manual_seed(1))
    conditionals = pixels.conditionals(value)
    assert conditionals.batch_shape == (300, 3) and pixels.event_shape == (3,)
    torch.testing.assert_close(conditionals.log_prob(value).sum(-1), pixels.log_prob(value))
    assert (conditionals.pmf().sum(-1) - 1).abs().max() < 1e-12


def test_a_conditional_does_not_look_at_its_own_or_a_later_channel():
    pixels = mixture(levels=9, colour=True)
    value = torch.tensor([4, 0, 8])
    for channel in range(3):
        changed = torch.cat((value[:channel], 8 - value[channel:]))
        before, after = pixels.conditionals(value).pmf(), pixels.conditionals(changed).pmf()
        assert torch.equal(before[: channel + 1], after[: channel + 1])
        if 0 < channel < 2:
            assert not torch.equal(before[channel + 1 :], after[channel + 1 :])


def test_the_probabilities_of_all_colours_sum_to_one():
    pixels = mixture(4, levels=5, colour=True, dtype=torch.float64)
    colours = torch.tensor(list(itertools.product(range(5), repeat=3)))
    total = sum(pixels.log_prob(colour.expand(4, 3)).exp() for colour in colours)
    torch.testing.assert_close(total, torch.ones(4, dtype=torch.float64))


def chi2_limit(cells):
    return stats.chi2.isf(1e-5, cells - 1)


def chi2(draws, expected):
    """Pearson's statistic, and its limit, over the cells that expect at least 5 of the draws."""
    counts, expected = np.asarray(draws, dtype=float), np.asarray(expected, dtype=float)
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], max(expected[rare].sum(), 1e-9))
    return ((counts - expected) ** 2 / expected.clip(1e-3)).sum(), chi2_limit(len(expected))


@pytest.mark.parametrize("levels", [4, 256])
def test_draws_follow_the_probabilities(levels):
    torch.manual_seed(0)
    pixel = mixture(levels=levels)
    counts = pixel.sample((100_000,)).bincount(minlength=levels)
    statistic, limit = chi2(counts, 100_000 * pixel.pmf())
    assert counts.shape == (levels,) and statistic < limit


def test_draws_of_colours_follow_the_probabilities():
    """A sampler that fed unrounded numbers to the next channel would fail here: bins of 3 levels are wide."""
    torch.manual_seed(0)
    pixel = mixture(levels=3, colour=True)
    colours = torch.tensor(list(itertools.product(range(3), repeat=3)))
    draws = pixel.sample((100_000,))
    assert draws.shape == (100_000, 3)
    counts = (draws @ torch.tensor([9, 3, 1])).bincount(minlength=27)
    statistic, limit = chi2(counts, 100_000 * pixel.log_prob(colours).exp())
    assert statistic < limit


def test_sample_shapes_come_in_front_and_the_mean_is_that_of_the_draws():
    torch.manual_seed(0)
    pixels = mixture(2, 3, levels=20)
    draws = pixels.sample((4000,))
    assert draws.shape == (4000, 2, 3) and draws.dtype == torch.int64 and 0 <= draws.min() <= draws.max() < 20
    torch.testing.assert_close(draws.double().mean(0).float(), pixels.mean, atol=0.5, rtol=0)
    assert mixture(2, 3, levels=20, colour=True).sample((5, 1)).shape == (5, 1, 2, 3, 3)


def test_memory_in_parts_changes_nothing():
    pixels = mixture(ROWS, levels=7)
    alone = DiscretizedLogisticMixture(pixels.logits[-1], pixels.means[-1], pixels.log_scales[-1], levels=7)
    torch.testing.assert_close(pixels.pmf()[-1], alone.pmf())


def test_short_formats_are_computed_in_float32():
    half = mixture(50, dtype=torch.bfloat16)
    assert half.log_prob(torch.zeros(50, dtype=torch.uint8)).dtype == torch.float32
    assert (half.pmf().sum(-1) - 1).abs().max() < 1e-5
    assert mixture(dtype=torch.float64).pmf().dtype == torch.float64


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("colour", [False, True])
def test_any_finite_parameters_are_safe(sign, colour):
    huge = sign * torch.finfo(torch.float32).max
    shape = (2, 3, 4) if colour else (2, 4)
    parameters = [torch.full((2, 4), huge), torch.full(shape, huge), torch.full(shape, -huge)]
    parameters += [torch.full(shape, huge)] if colour else []
    parameters[0][:, 0] = 0
    parameters = [parameter.requires_grad_() for parameter in parameters]
    pixels = DiscretizedLogisticMixture(*parameters)
    value = torch.tensor([[0, 128, 255], [255, 0, 1]]) if colour else torch.tensor([3, 255])
    log_prob = pixels.log_prob(value)
    assert log_prob.isfinite().all()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(log_prob.sum(), parameters))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.tensor(16), "from 16 to 16"),
        (torch.tensor(-1), "from -1"),
        (torch.tensor(0.5), "whole numbers in 0 … 15"),
        (torch.tensor(math.nan), "whole numbers"),
    ],
)
def test_values_off_the_grid_are_refused(value, words):
    with pytest.raises(ValueError, match=words):
        mixture(levels=16).log_prob(value)
    with pytest.raises(ValueError, match=words):
        mixture(levels=16, colour=True).conditionals(value.expand(3))


def test_settings_that_do_not_fit_are_refused():
    three, colour = torch.zeros(3), torch.zeros(3, 3)
    with pytest.raises(ValueError, match="levels is 1"):
        DiscretizedLogisticMixture(three, three, three, levels=1)
    with pytest.raises(ValueError, match=r"all three \[..., M\]"):
        DiscretizedLogisticMixture(three, torch.zeros(4), three)
    with pytest.raises(ValueError, match=r"three times \[..., 3, M\]"):
        DiscretizedLogisticMixture(three, three, three, three)
    with pytest.raises(ValueError, match=r"three times \[..., 3, M\]"):
        DiscretizedLogisticMixture(three, colour, colour, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="last axis must hold R, G and B"):
        DiscretizedLogisticMixture(three, colour, colour, colour).log_prob(torch.zeros(4, 1))
    for what in (lambda d: d.pmf(), lambda d: d.mean):
        with pytest.raises(ValueError, match="conditionals"):
            what(DiscretizedLogisticMixture(three, colour, colour, colour))
    with pytest.raises(ValueError, match="its own conditional"):
        DiscretizedLogisticMixture(three, three, three).conditionals(torch.zeros(3))
