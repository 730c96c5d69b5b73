"""What must hold of every sampler: exact, reproducible, careful with what it is given."""

import itertools
import math

import pytest
import torch
from torch import nn

import pixelhelpers as ph
from pixelhelpers.sampling import draw


def small(levels=4, size=5, seed=0, **keywords):
    torch.manual_seed(seed)
    return ph.PixelCNN(levels=levels, hidden=12, blocks=2, image_size=size, **keywords).double().eval()


def sample(model, count, **keywords):
    return ph.sample(model, count, progress=False, **keywords)


def every_image(shape, levels):
    values = list(itertools.product(range(levels), repeat=math.prod(shape)))
    return torch.tensor(values, dtype=torch.uint8).view(-1, *shape)


# -- drawing one value --------------------------------------------------------------------------------


def test_draw_takes_the_smallest_level_whose_cdf_exceeds_u():
    pmf = torch.rand(500, 9, dtype=torch.float64)
    pmf /= pmf.sum(-1, keepdim=True)
    u = torch.rand(500, dtype=torch.float64)
    expected = [next(v for v in range(9) if row[: v + 1].sum() > x) for row, x in zip(pmf, u, strict=True)]
    assert draw(pmf, u).tolist() == expected


def test_draw_never_takes_a_level_without_mass():
    pmf = torch.tensor([0.0, 0.5, 0.0, 0.5 - 1e-9, 0.0, 0.0], dtype=torch.float64)
    drawn = {int(draw(pmf, torch.tensor(u, dtype=torch.float64))) for u in (0.0, 0.2, 0.5, 0.7, 1 - 1e-16)}
    assert drawn == {1, 3}


def test_frequencies_match_probabilities():
    pmf = torch.tensor([0.1, 0.0, 0.2, 0.3, 0.4])
    u = torch.rand(40_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    counts = draw(pmf.expand(40_000, 5), u).bincount(minlength=5)
    assert torch.allclose(counts / 40_000, pmf, atol=0.01) and counts[1] == 0


def test_temperature_raises_to_a_power_and_top_p_cuts_after_it():
    pmf = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    u = torch.linspace(0, 1, 10_001, dtype=torch.float64)[:-1]
    squared = pmf**2 / (pmf**2).sum()

    def frequencies(**keywords):
        return draw(pmf.expand(10_000, 4), u, **keywords).bincount(minlength=4) / 10_000

    assert torch.allclose(frequencies(temperature=0.5).double(), squared, atol=1e-3)
    # Squared, the two most likely levels hold 0.3 + 0.53 of the mass: enough for 0.8.
    kept = torch.tensor([0, 0, *squared[2:]], dtype=torch.float64)
    assert torch.allclose(frequencies(temperature=0.5, top_p=0.8).double(), kept / kept.sum(), atol=1e-3)
    assert torch.equal(frequencies(top_p=1.0), frequencies())


def test_greedy_takes_the_lowest_of_equals_and_is_the_limit_of_low_temperature():
    pmf = torch.tensor([[0.2, 0.4, 0.4], [0.5, 0.1, 0.4]])
    assert draw(pmf, torch.zeros(2), greedy=True).tolist() == [1, 0]
    assert draw(pmf, torch.zeros(2), top_p=1e-9).tolist() == [1, 0]
    u = torch.full((2,), 0.3, dtype=torch.float64)
    assert draw(pmf, u, temperature=1e-3).tolist() == [1, 0]


# -- drawing images -----------------------------------------------------------------------------------


def test_draws_follow_the_models_own_distribution():
    model = small(levels=3, size=2)
    images = every_image((1, 2, 2), 3)
    probability = model.log_prob(images).exp().detach()
    draws = sample(model, 10_000, seed=3).flatten(1).long()
    counts = (draws @ torch.tensor([27, 9, 3, 1])).bincount(minlength=81)
    chi2 = ((counts - 10_000 * probability) ** 2 / (10_000 * probability)).sum()
    assert chi2 < 80 + 4 * math.sqrt(160)  # 80 degrees of freedom, four standard deviations


def test_same_seed_same_images_and_image_k_ignores_its_batch(monkeypatch):
    model = small(size=6)
    ten = sample(model, 10, seed=7)
    assert torch.equal(ten[:3], sample(model, 3, seed=7))
    monkeypatch.setattr(ph.sampling, "CHUNK", 4)
    assert torch.equal(ten, sample(model, 10, seed=7))
    assert not torch.equal(ten, sample(model, 10, seed=8))


def test_without_a_seed_the_global_generator_decides():
    model = small()
    torch.manual_seed(5)
    first, second = sample(model, 2), sample(model, 2)
    torch.manual_seed(5)
    assert torch.equal(first, sample(model, 2)) and not torch.equal(first, second)


@pytest.mark.parametrize("channels", [1, 3])
def test_all_methods_give_equal_images(channels):
    for seed in range(5):
        model = small(seed=seed, image_channels=channels)
        naive = sample(model, 2, shape=(4, 7), seed=seed, method="naive")
        assert torch.equal(naive, sample(model, 2, shape=(4, 7), seed=seed, method="cropped"))
        assert torch.equal(naive, sample(model, 2, shape=(4, 7), seed=seed))


@pytest.mark.parametrize("channels", [1, 3])
def test_naive_costs_one_whole_forward_pass_per_value(channels):
    model, shapes = small(image_channels=channels), []
    model.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
    sample(model, 2, method="naive", shape=(3, 4))
    assert shapes == [(2, channels, 3, 4)] * (12 * channels)


def test_labels_reach_the_images_that_they_belong_to():
    model = small(classes=2)
    with torch.no_grad():
        model.class_bias.weight[1] += 5
    both = sample(model, 4, seed=0, label=torch.tensor([0, 1, 0, 1]))
    zeros, ones = sample(model, 4, seed=0, label=0), sample(model, 4, seed=0, label=1)
    assert torch.equal(both[::2], zeros[::2]) and torch.equal(both[1::2], ones[1::2])
    assert not torch.equal(zeros, ones)


def test_a_learners_own_module_is_sampled_like_a_model():
    model = small(levels=5, size=6)

    images = sample(nn.Sequential(model), 2, shape=(6, 6), seed=1)
    assert torch.equal(images, sample(model, 2, seed=1))


def test_the_model_and_the_result_are_left_fit_for_use():
    model = small().train()
    images = sample(model, 2)
    assert model.training
    images += 0  # not an inference tensor
    model.log_prob(images).sum().backward()


def test_sampling_ignores_autocast():
    model = small(size=4).float()
    plain = sample(model, 3, seed=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain, sample(model, 3, seed=2))


# -- completion ---------------------------------------------------------------------------------------


def test_completion_never_touches_known_values(capsys):
    model = small(levels=8)
    given = torch.randint(0, 8, (3, 1, 5, 5), dtype=torch.uint8)
    for seed in range(5):
        known = torch.rand(3, 1, 5, 5, generator=torch.Generator().manual_seed(seed)) < 0.5
        images = sample(model, 3, given=given, known=known, seed=seed)
        assert torch.equal(images[known], given[known]) and not torch.equal(images, given)


def test_completing_a_prefix_draws_from_the_true_conditional():
    model = small(levels=3, size=2)
    images = every_image((1, 2, 2), 3)
    given = torch.tensor([[[2, 1], [0, 0]]], dtype=torch.uint8)
    known = torch.tensor([[True, True], [False, False]])
    fits = (images[:, 0, 0] == given[0, 0]).all(-1)
    probability = model.log_prob(images[fits]).exp().detach()
    draws = sample(model, 10_000, given=given, known=known, seed=4)[:, 0, 1].long()
    frequency = (draws @ torch.tensor([3, 1])).bincount(minlength=9) / 10_000
    assert torch.allclose(frequency.double(), probability / probability.sum(), atol=0.02)


def test_known_values_later_in_the_order_are_said_to_be_ignored(capsys):
    model, known = small(), torch.zeros(5, 5, dtype=torch.bool)
    given = torch.zeros(1, 5, 5, dtype=torch.uint8)
    known[:2] = True
    sample(model, 1, given=given, known=known)
    assert capsys.readouterr().out == ""
    sample(model, 1, given=given, known=~known)
    assert capsys.readouterr().out.count("\n") == 1
    free = sample(model, 1, seed=0)
    assert torch.equal(sample(model, 1, given=given, known=~known, seed=0)[:, :, :2], free[:, :, :2])


def test_known_values_cost_no_forward_pass():
    model, passes = small(), []
    model.register_forward_pre_hook(lambda module, inputs: passes.append(1))
    known = torch.zeros(5, 5, dtype=torch.bool)
    known[:3] = True
    sample(model, 2, given=torch.zeros(1, 5, 5, dtype=torch.uint8), known=known)
    assert len(passes) == 10


# -- bad input ----------------------------------------------------------------------------------------

GIVEN = torch.zeros(1, 5, 5, dtype=torch.uint8)
KNOWN = torch.ones(5, 5, dtype=torch.bool)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"count": 0}, "count is 0"),
        ({"method": "fast"}, "method is 'fast'"),
        ({"temperature": 0.0}, "greedy=True"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"shape": (5,)}, "height, width"),
        ({"given": GIVEN}, "belong together"),
        ({"known": KNOWN}, "belong together"),
        ({"given": GIVEN.float(), "known": KNOWN}, "torch.float32"),
        ({"given": GIVEN, "known": KNOWN.int()}, "give bool"),
        ({"given": GIVEN, "known": KNOWN[:3]}, r"known \(3, 5\)"),
        ({"given": GIVEN + 9, "known": KNOWN}, "from 9 to 9"),
        ({"given": GIVEN.expand(3, 5, 5), "known": KNOWN}, "3 channels"),
        ({"given": GIVEN, "known": KNOWN, "shape": (4, 4)}, "leave shape out"),
        ({"label": 1}, "without classes"),
    ],
)
def test_bad_input_is_named_before_anything_is_drawn(keywords, words):
    model = small()
    model.register_forward_pre_hook(lambda module, inputs: pytest.fail("a forward pass was run"))
    with pytest.raises(ValueError, match=words):
        sample(model, keywords.pop("count", 2), **keywords)


@pytest.mark.parametrize("label", [None, 2, -1, torch.tensor([0, 1]), torch.tensor([0.0])])
def test_labels_that_do_not_fit_are_refused(label):
    with pytest.raises(ValueError, match="label"):
        sample(small(classes=2), 3, label=label)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gpu_and_cpu_draw_the_same_images():
    model = small(size=8)
    assert torch.equal(sample(model, 4, seed=0), sample(model.cuda(), 4, seed=0))
