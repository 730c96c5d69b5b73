"""What must hold of every sampler: exact, reproducible, careful with what it is given."""

import itertools
import math
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import numpy
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import pixelhelpers as ph
from pixelhelpers import sampling
from pixelhelpers.models.base import AutoregressiveModel
from pixelhelpers.models.heads import SoftmaxHead
from pixelhelpers.sampling import draw
from tests import register
from tests.register import MODELS, every_model, raster

IN_ROWS = {name: kind for name, kind in MODELS.items() if raster(register.small(kind))}
RASTER = pytest.mark.parametrize("kind", IN_ROWS.values(), ids=IN_ROWS)


def small(kind=ph.PixelCNN, levels=4, size=6, seed=0, **keywords):
    torch.manual_seed(seed)
    return kind(levels=levels, hidden=12, blocks=2, image_size=size, **keywords).double().eval()


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_number_beyond_the_total_takes_the_last_level_with_mass(dtype):
    """The number is moved to the next one below the total; further down, the last level might be passed over."""
    generator = torch.Generator().manual_seed(0)
    start = (torch.rand(2000, dtype=torch.float64, generator=generator) * 0.4 + 0.59).to(dtype)
    start[:2] = torch.tensor([0.5, 1.0]).to(dtype)
    step = start.nextafter(torch.full_like(start, 2)) - start  # a last level as small as can be
    pmf = torch.stack((start, torch.zeros_like(step), step, torch.zeros_like(step)), 1)
    beyond = torch.full((2000,), 3.0, dtype=torch.float64)
    assert (pmf.cumsum(1)[:, 2] > start).all() and (draw(pmf, beyond) == 2).all()


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


@pytest.mark.parametrize("method", ["naive", "cached", "fixed-point"])
def test_draws_follow_the_models_own_distribution(method):
    model = small(levels=3, size=2)
    images = every_image((1, 2, 2), 3)
    probability = model.log_prob(images).exp().detach()
    draws = sample(model, 10_000, seed=3, method=method).flatten(1).long()
    counts = (draws @ torch.tensor([27, 9, 3, 1])).bincount(minlength=81)
    chi2 = ((counts - 10_000 * probability) ** 2 / (10_000 * probability)).sum()
    assert chi2 < 80 + 4 * math.sqrt(160)  # 80 degrees of freedom, four standard deviations


def test_same_seed_same_images_and_image_k_ignores_its_batch(monkeypatch):
    model = small(size=6)
    ten = sample(model, 10, seed=7)
    assert torch.equal(ten[:3], sample(model, 3, seed=7))
    monkeypatch.setattr(ph.sampling, "PIXELS", 4 * 36)
    assert torch.equal(ten, sample(model, 10, seed=7))
    assert not torch.equal(ten, sample(model, 10, seed=8))


def test_without_a_seed_the_global_generator_decides():
    model = small()
    torch.manual_seed(5)
    first, second = sample(model, 2), sample(model, 2)
    torch.manual_seed(5)
    assert torch.equal(first, sample(model, 2)) and not torch.equal(first, second)


METHODS = ("naive", "cropped", "cached", "fixed-point")


def methods_of(model):
    return [name for name in METHODS if name != "cropped" or not isinstance(model, ph.MultiscalePixelCNN)]


@every_model
@pytest.mark.parametrize("seed", range(20))
def test_all_methods_give_equal_images_whatever_the_batch(kind, seed):
    model = small(kind, seed=seed, image_channels=1 + 2 * (seed % 2), classes=3 if seed % 3 == 0 else None)
    label = None if model.classes is None else torch.tensor([2, 0, 1])
    naive = sample(model, 3, shape=(4, 8), seed=seed, method="naive", label=label)
    for method in methods_of(model)[1:]:
        assert torch.equal(naive, sample(model, 3, shape=(4, 8), seed=seed, method=method, label=label)), method
        first = sample(model, 1, shape=(4, 8), seed=seed, method=method, label=None if label is None else 2)
        assert torch.equal(naive[:1], first), method


@every_model
@pytest.mark.parametrize(
    "keywords",
    [{"temperature": 0.4}, {"top_p": 0.7}, {"temperature": 1.7, "top_p": 0.9}, {"greedy": True}],
    ids=str,
)
def test_all_methods_steer_alike(kind, keywords):
    model = small(kind, levels=6)
    naive = sample(model, 3, seed=1, method="naive", **keywords)
    for method in methods_of(model)[1:]:
        assert torch.equal(naive, sample(model, 3, seed=1, method=method, **keywords)), method
    assert not torch.equal(naive, sample(model, 3, seed=1))


@every_model
@pytest.mark.filterwarnings("ignore:known values that come later")
def test_all_methods_complete_alike(kind):
    model = small(kind, levels=8, image_channels=3)
    given = torch.randint(0, 8, (3, 3, 6, 6), dtype=torch.uint8)
    for seed in range(4):
        known = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) < seed / 3
        keywords = {"given": given, "known": known, "seed": seed}
        naive = sample(model, 3, method="naive", **keywords)
        for method in methods_of(model)[1:]:
            assert torch.equal(naive, sample(model, 3, method=method, **keywords)), method
        assert torch.equal(naive[known], given[known])


@RASTER
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (20, 17), (3, 40)])
def test_any_size_can_be_drawn(kind, shape):
    model = small(kind, size=6)
    assert torch.equal(sample(model, 2, shape=shape, seed=0), sample(model, 2, shape=shape, seed=0, method="cropped"))


@pytest.mark.parametrize("doublings", [1, 2, 3])
@pytest.mark.parametrize("shape", [(8, 8), (8, 16), (24, 8)])
def test_a_multiscale_model_draws_any_size_that_fits(doublings, shape):
    model = small(partial(ph.MultiscalePixelCNN, doublings=doublings), size=8)
    for keywords in ({"seed": 0}, {"seed": 1, "temperature": 0.5}):
        images = sample(model, 2, shape=shape, **keywords)
        assert torch.equal(images, sample(model, 2, shape=shape, method="naive", **keywords))


@pytest.mark.parametrize(("channels", "doublings"), [(1, 2), (3, 2), (1, 3)])
def test_a_multiscale_model_draws_with_three_evaluations_for_each_doubling_and_channel(channels, doublings):
    base = 2
    model = small(ph.MultiscalePixelCNN, size=None, image_channels=channels, base=base, doublings=doublings)
    whole = []
    model.register_forward_hook(lambda *_: whole.append(1))
    sample(model, 2, method="naive")
    assert len(whole) == len(model.order((channels, model.image_size, model.image_size)).unique())
    assert len(whole) == channels * (base**2 + 3 * doublings)


def test_a_model_of_its_own_order_cannot_be_cropped():
    with pytest.raises(ValueError, match=r"MultiscalePixelCNN draws pixels below before .* give 'auto'"):
        sample(small(ph.MultiscalePixelCNN, size=8), 1, method="cropped")


def test_in_single_precision_images_part_only_at_the_edge_of_a_level():
    """Where two methods first differ, the number lies within 1e-4 of a step of the CDF."""
    model = ph.load_pretrained("pixelcnn-digits")
    model = model.to(memory_format=torch.channels_last)
    uniform = torch.rand(8, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cropped = sample(model, 8, seed=0, method="cropped")
    for other in (sample(model, 8, seed=0), sample(model, 8, seed=0, method="fixed-point")):
        for image in (other != cropped).flatten(1).any(1).nonzero()[:, 0].tolist():
            at = int((other[image] != cropped[image]).flatten().nonzero()[0])
            row, column = divmod(at, 28)
            with torch.no_grad():
                cdf = model.predict(other[image][None], at=(row, column, 0)).pmf().double().cumsum(-1)
            assert (cdf - uniform[image, 0, row, column]).abs().min() < 1e-4


@every_model
def test_cached_does_each_values_work_once(kind):
    """The multiply-adds of drawing an image are those of one forward pass over it.

    One hundredth is for what a pass has not: probabilities of a mixture, a row of zeros under Gated PixelCNN's stem.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    def in_place(total, left, right, **_):  # which PyTorch's counter leaves out
        return 2 * left[0] * left[1] * right[1]

    for channels in (1, 3):
        model = kind(levels=8, hidden=24, blocks=3, image_channels=channels).eval()
        if channels == 3 and isinstance(model, ph.MultiscalePixelCNN):
            continue  # its heads, not its networks, are asked again for each channel
        # The fused kernel of attention is not counted, the one in steps is.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as one_pass, torch.no_grad():
            model(torch.zeros(2, channels, 12, 12, dtype=torch.uint8))
        with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: in_place}) as drawing:
            sample(model, 2, shape=(12, 12))
        assert drawing.get_total_flops() <= 1.01 * one_pass.get_total_flops()


def test_caches_belong_to_the_call():
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    first = sample(model, 2, seed=0)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert attributes == {name: set(vars(module)) for name, module in model.named_modules()}
    with torch.no_grad():
        model.stem.bias += 1  # new weights act at once
    assert not torch.equal(first, sample(model, 2, seed=0))
    assert torch.equal(sample(model, 2, seed=0), sample(model, 2, seed=0, method="naive"))


def test_a_changed_forward_is_not_drawn_with_the_old_steps():
    class Inverted(ph.PixelCNN):
        def forward(self, x, label=None):
            return -super().forward(x, label)

    torch.manual_seed(0)
    model = Inverted(levels=4, hidden=12, blocks=2, image_size=5).double()
    assert torch.equal(sample(model, 3, seed=0), sample(model, 3, seed=0, method="naive"))
    with pytest.raises(ValueError, match="stepper"):
        sample(model, 3, method="cached")


def test_fixed_point_takes_few_passes_and_never_more_than_there_are_values():
    calls = []

    def passes(model, **keywords):
        hook = model.register_forward_hook(lambda *_: calls.append(1))
        calls.clear()
        sample(model, 4, seed=0, method="fixed-point", **keywords)
        hook.remove()
        return len(calls)

    class Copy(AutoregressiveModel):
        """Each pixel equals its left neighbour, or the last of the row above: nothing can be guessed ahead."""

        head = SoftmaxHead

        def __init__(self):
            super().__init__(levels=2, image_channels=1, image_size=4, classes=None)
            self.scaling = nn.Parameter(torch.tensor(60.0))

        def forward(self, x, label=None):
            before = torch.cat([torch.zeros(len(x), 1), x.flatten(1)[:, :-1].float()], 1)
            before[:, 0] = 1
            return (nn.functional.one_hot(before.long(), 2).movedim(-1, 1).float() * self.scaling).view(len(x), 2, 4, 4)

    independent = small()
    with torch.no_grad():
        independent.stem.weight.zero_()
    assert passes(independent) <= 3  # one that is right, the others find it so
    assert passes(Copy()) == 18
    assert passes(ph.load_pretrained("pixelcnn-digits"), shape=(14, 14)) < 98


def test_fixed_point_of_a_model_that_sees_the_future_is_refused():
    torch.manual_seed(0)
    leaky = nn.Conv2d(1, 8, 3, padding=1)
    with torch.no_grad():
        leaky.weight.mul_(50)
    with pytest.raises(ph.CausalityError, match="check_causal"):
        sample(leaky, 8, shape=(6, 6), seed=0, method="fixed-point")


@pytest.mark.parametrize("channels", [1, 3])
def test_naive_costs_one_whole_forward_pass_per_value(channels):
    model, shapes = small(image_channels=channels), []
    model.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
    sample(model, 2, method="naive", shape=(3, 4))
    assert shapes == [(2, channels, 3, 4)] * (12 * channels)


@every_model
def test_labels_reach_the_images_that_they_belong_to(kind):
    model = small(kind, classes=2)
    with torch.no_grad():
        next(weight for name, weight in model.named_parameters() if "class_bias" in name)[1] += 5
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


# -- while it is drawn --------------------------------------------------------------------------------


@every_model
@pytest.mark.parametrize("channels", [1, 3])
def test_on_step_is_told_of_every_turn_and_of_what_will_stay(kind, channels):
    model = small(kind, image_channels=channels)
    given = torch.randint(0, 4, (3, channels, 6, 6), dtype=torch.uint8)
    known = torch.zeros(6, 6, dtype=torch.bool)
    known[0, 0] = True
    for keywords in ({}, {"given": given, "known": known}):
        whole = sample(model, 3, seed=0, **keywords)
        assert len(whole.unique()) > 1
        for method in methods_of(model):
            seen = []
            images = sample(model, 3, seed=0, method=method, on_step=lambda *both: seen.append(both), **keywords)  # noqa: B023
            assert torch.equal(images, whole)
            assert torch.equal(seen[-1][0], whole) and seen[-1][1].all()
            before = torch.zeros_like(seen[0][1])
            for so_far, drawn in seen:
                assert so_far.dtype == torch.uint8 and drawn.dtype == torch.bool and so_far.shape == drawn.shape
                assert torch.equal(so_far[drawn], whole[drawn]) and (drawn >= before).all()
                before = drawn
            if method != "fixed-point":
                assert len(seen) >= len(model.order((channels, 6, 6)).unique()) // 6


def test_on_step_gives_tensors_to_keep_counts_in_chunks_and_can_end_the_drawing(monkeypatch):
    model = small()
    monkeypatch.setattr(ph.sampling, "PIXELS", 2 * 36)
    seen = []
    images = sample(model, 5, seed=0, on_step=lambda *both: seen.append(both))
    assert all(so_far.shape == images.shape for so_far, _ in seen) and torch.equal(seen[-1][0], images)
    model.log_prob(seen[0][0]).sum().backward()  # no inference tensors
    seen[0][0].zero_()
    assert torch.equal(seen[-1][0], images)

    def enough(images, drawn):
        raise StopIteration

    model.train()
    with pytest.raises(StopIteration):
        sample(model, 2, on_step=enough)
    assert model.training


# -- completion ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:known values that come later")
def test_completion_never_touches_known_values():
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


def test_known_values_later_in_the_order_are_said_to_be_ignored(recwarn):
    model, known = small(), torch.zeros(5, 5, dtype=torch.bool)
    given = torch.zeros(1, 5, 5, dtype=torch.uint8)
    known[:2] = True
    sample(model, 1, given=given, known=known)
    assert not recwarn.list
    free = sample(model, 1, seed=0, shape=(5, 5))
    with pytest.warns(UserWarning, match="come later in the drawing order are ignored"):
        completed = sample(model, 1, given=given, known=~known, seed=0)
    assert torch.equal(completed[:, :, :2], free[:, :, :2])


@pytest.mark.parametrize("kind", [ph.PixelCNN, ph.PixelCNNPlusPlus])
def test_the_cached_sampler_draws_nothing_and_tells_nothing_where_all_is_known(kind, monkeypatch):
    model, known, drawn, told = small(kind), torch.arange(6)[:, None].expand(6, 6) < 3, [], []
    true = sampling.draw
    monkeypatch.setattr(sampling, "draw", lambda pmf, u, **how: drawn.append(u.numel()) or true(pmf, u, **how))
    given = torch.randint(4, (1, 6, 6))
    keywords = {"given": given, "known": known, "seed": 0, "method": "cached"}
    images = sample(model, 2, on_step=lambda images, done: told.append(int(done.sum())), **keywords)
    fronts = list(model.fronts(2, (1, 6, 6), torch.zeros(())))
    assert len(drawn) == len(told) < len(fronts) and sum(drawn) >= 2 * 18
    assert told == sorted(told) and told[0] > 2 * 18 and told[-1] == 2 * 36
    assert torch.equal(images, sample(model, 2, **keywords | {"method": "naive"}))


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(6, 6), (7, 5), (9, 2), (5, 1)])
def test_known_rows_are_read_at_once_and_nothing_changes(classes, channels, shape, monkeypatch):
    model = small(ph.PixelCNNPlusPlus, levels=6, image_channels=channels, classes=classes)
    height, width = shape
    given, asked = torch.randint(6, (3, channels, height, width), dtype=torch.uint8), []
    label = None if classes is None else torch.tensor([0, 2, 1])
    step = ph.models.plusplus.PlusPlusStep
    true = step.predict
    monkeypatch.setattr(step, "predict", lambda self, front: asked.append(front) or true(self, front))
    for rows in range(height + 1):
        known = (torch.arange(height) < rows)[:, None].expand(height, width).clone()
        if rows < height:
            known[rows, : width // 2] = True  # and a part of the next one
        keywords = {"given": given, "known": known, "label": label, "seed": rows}
        cached = sample(model, 3, method="cached", **keywords)
        assert len(asked) == (height - rows) * width * channels
        assert torch.equal(cached, sample(model, 3, method="naive", **keywords)), rows
        asked.clear()


def test_known_values_cost_no_forward_pass():
    model, passes = small(), []
    model.register_forward_pre_hook(lambda module, inputs: passes.append(1))
    known = torch.zeros(5, 5, dtype=torch.bool)
    known[:3] = True
    sample(model, 2, given=torch.zeros(1, 5, 5, dtype=torch.uint8), known=known, method="naive")
    assert len(passes) == 10


# -- bad input ----------------------------------------------------------------------------------------

GIVEN = torch.zeros(1, 5, 5, dtype=torch.uint8)
KNOWN = torch.ones(5, 5, dtype=torch.bool)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"count": 0}, "count is 0"),
        ({"count": 2.5}, r"count is 2\.5: give a whole number"),
        ({"count": "2"}, "count is '2'"),
        ({"count": torch.ones(2)}, r"count is a Tensor of shape \(2,\)"),
        ({"count": 10**11}, r"count is 100000000000: so many images of 1×6×6 take 3,600 GB"),
        ({"seed": 2**63}, "at most 63 bits"),
        ({"seed": 0.5}, r"seed is 0\.5: give a whole number"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"temperature": "hot"}, "temperature is 'hot': give a number"),
        ({"temperature": [1.0]}, "temperature is"),
        ({"top_p": "most"}, "top_p is 'most'"),
        ({"method": ["naive"]}, "method is"),
        ({"shape": (3, 5, 5)}, "draws 1 channels"),
        ({"shape": (5.5, 5)}, r"shape is \(5\.5, 5\)"),
        ({"shape": "55"}, "shape is '55'"),
        ({"given": GIVEN.movedim(0, -1), "known": KNOWN}, r"Channels last\? Give given\.movedim\(-1, -3\)"),
        ({"given": GIVEN.numpy() / 2, "known": KNOWN}, r"given has type torch\.float"),
        ({"given": "x", "known": KNOWN}, "given is 'x'"),
        ({"given": GIVEN, "known": "x"}, "known is a str: give bool"),
        ({"label": "cat"}, "without classes"),
        ({"method": "fast"}, "method is 'fast'"),
        ({"temperature": 0.0}, "greedy=True"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"shape": 5}, "shape is 5"),
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
    with pytest.raises(ValueError, match=words) as error:
        sample(model, **({"count": 2} | keywords))
    assert "\n" not in str(error.value)


def test_numbers_and_arrays_of_other_libraries_are_taken():
    model, expected = small(classes=2), sample(small(classes=2), 2, seed=3, temperature=0.5, label=1)
    images = sample(
        model,
        numpy.int64(2),
        seed=torch.tensor(3),
        temperature=numpy.float32(0.5),
        label=numpy.array([1, 1], dtype=numpy.uint8),
        shape=numpy.array([1, 6, 6]),
    )
    assert torch.equal(images, expected)
    images = sample(model, 2, label=1, given=GIVEN.numpy().astype("uint16") + 1, known=KNOWN.numpy())
    assert torch.equal(images, torch.ones_like(images))


def test_the_numbers_of_an_image_are_those_of_one_stream(monkeypatch):
    """What is drawn together changes no image, though numbers are drawn as they are needed."""
    expected = sample(small(), 7, seed=0)
    for together in (1, 2, 5):
        monkeypatch.setattr(sampling, "PIXELS", together * 36)
        assert torch.equal(expected, sample(small(), 7, seed=0))
    uniform = torch.rand(7, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = draw(small().predict(expected, at=(0, 0, 0)).pmf(), uniform[:, 0, 0, 0])
    assert torch.equal(first.to(torch.uint8), expected[:, 0, 0, 0])


def test_weights_that_are_not_numbers_are_refused():
    model = small()
    with torch.no_grad():
        model.head[1].bias[3] = torch.nan
    with pytest.raises(ValueError, match=r"head\.1\.bias.*NaN"):
        sample(model, 1)


def test_cached_needs_a_stepper():
    model = nn.Sequential(small())
    with pytest.raises(ValueError, match="fixed-point"):
        sample(model, 2, shape=(5, 5), method="cached")


@pytest.mark.parametrize("label", [None, 2, -1, torch.tensor([0, 1]), torch.tensor([0.0])])
def test_labels_that_do_not_fit_are_refused(label):
    with pytest.raises(ValueError, match="label"):
        sample(small(classes=2), 3, label=label)


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@needs_gpu
@every_model
def test_gpu_and_cpu_draw_the_same_images(kind):
    model = small(kind, size=8)
    cpu = sample(model, 4, seed=0, method="naive")
    model = model.cuda()
    for method in methods_of(model):
        assert torch.equal(cpu, sample(model, 4, seed=0, method=method)), method


@needs_gpu
def test_a_gpu_never_draws_a_level_without_mass():
    """Numbers just above a step, where sums in another order would go wrong."""
    generator = torch.Generator().manual_seed(0)
    pmf = torch.rand(20_000, 256, generator=generator) * (torch.rand(20_000, 256, generator=generator) < 0.5)
    pmf = pmf / pmf.sum(-1, keepdim=True)
    steps = pmf.double().cumsum(-1).gather(1, torch.randint(255, (20_000, 1), generator=generator))[:, 0]
    drawn = draw(pmf.cuda(), (steps + 1e-10).clamp(max=1 - 1e-9).cuda()).cpu()
    assert (pmf.gather(1, drawn[:, None]) > 0).all()


@needs_gpu
@every_model
def test_a_gpu_is_never_waited_for_while_it_draws(kind):
    model = small(kind, size=8, classes=2).cuda()
    wave = model.fronts(3, (1, 8, 8), like=next(model.parameters()))
    uniform = wave.by_front(torch.rand(3, 1, 8, 8, dtype=torch.float64, device="cuda"))
    with torch.inference_mode():
        step, label = model.stepper(wave, model.labels(1, 3)), model.labels(1, 3)
        x, bar = torch.zeros(3, 1, 8, 8, dtype=torch.uint8, device="cuda"), SimpleNamespace(update=lambda done: None)
        job = ph.sampling._Job(model, x, None, label, wave.by_image(uniform), draw, bar, None)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for front in wave:
                step.put(front, draw(step.predict(front).pmf(), uniform[0, front.pixels].flatten()))
            if raster(model):  # not where groups are drawn
                ph.sampling._naive(job)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@every_model
@pytest.mark.parametrize("case", [{}, {"image_channels": 3, "classes": 3}], ids=["grey", "colour, classes"])
def test_no_turn_asks_the_device_for_a_value_or_brings_it_one(kind, case, monkeypatch):
    """The meta device stands for a GPU: it has no values to give, and what the CPU brings is seen, but for lists."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # unknown there
    model = small(kind, size=2, **case).to("meta")
    shape = (model.image_channels, 2, 2)
    label = torch.zeros(3, dtype=torch.long, device="meta") if case else None
    x, uniform = (torch.zeros(3, *shape, dtype=dtype, device="meta") for dtype in (torch.uint8, torch.float64))
    with torch.inference_mode():
        wave = model.fronts(3, shape, like=next(model.parameters()))
        step, numbers = model.stepper(wave, label), wave.by_front(uniform)
        with OneDevice():
            for front in wave:
                at = (front.channel, front.pixels)
                step.put(front, draw(step.predict(front).pmf(), numbers[at].flatten()))
        if raster(model, (2, 2)):
            bar = SimpleNamespace(update=lambda done: None)
            with OneDevice():
                ph.sampling._naive(ph.sampling._Job(model, x, None, label, uniform, draw, bar, None))


SHORT = [
    "torch.set_float32_matmul_precision('medium')",
    "torch.backends.cuda.matmul.allow_tf32 = True",
    "torch.backends.fp32_precision = 'tf32'",
    "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "torch.backends.cudnn.conv.fp32_precision = 'ieee'",
    "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
]


@pytest.mark.parametrize("setting", SHORT)
def test_sampling_is_in_full_precision_whatever_is_set_and_leaves_it_set(setting):
    """In a process of its own: PyTorch does not forget which names, the older or the newer, a setting was given by."""
    program = f"""
import torch, pixelhelpers as ph
from pixelhelpers.hardware import _with_formats
def now():
    return [backend.fp32_precision for backend in _with_formats()]
{setting}
before, inside = now(), []
model = ph.PixelCNN(levels=4, hidden=8, blocks=1)
ph.sample(model, 1, shape=(2, 2), progress=False, on_step=lambda images, drawn: inside.append(now()))
assert now() == before, (before, now())
assert set(sum(inside, [])) <= {{"none", "ieee"}}, inside
ph.sample(model, 1, shape=(2, 2), progress=False)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", [{}, {"greedy": True}, {"temperature": 0.5, "top_p": 0.9}], ids=str)
def test_no_way_of_drawing_asks_the_device_for_a_value_or_brings_it_one(how):
    with OneDevice():
        draw(torch.zeros(3, 5, device="meta"), torch.zeros(3, dtype=torch.float64, device="meta"), **how)


class OneDevice(TorchDispatchMode):
    """Refuses operators whose tensors are on two devices: a GPU is waited for when they are copied."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **kwargs or {})
        tensors = [part for part in tree_leaves((args, kwargs, result)) if isinstance(part, torch.Tensor)]
        assert len({tensor.device for tensor in tensors}) < 2, operator
        return result


# -- what a learner may have done to a model -----------------------------------------------------------


def hooked(model):
    model.blocks[0].register_forward_hook(lambda module, inputs, output: 2 * output)


def own_forward(model):
    forward = model.forward
    model.forward = lambda x, label=None: -forward(x, label)


def own_predict(model):
    predict = model.predict
    model.predict = lambda x, label=None, at=None: predict(x.flip(1) * 0, label, at)


def other_activation(model):
    model.head[0] = nn.Tanh()


def no_block(model):
    model.blocks[0] = nn.Identity()


def wide_block(model):
    model.blocks[0] = ph.ResidualBlock(12, kernel_size=11).double()


def old_weight_norm(model):
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(model.head[3])
    model.head[3].weight_g.data.mul_(20)


def pruned(model):
    from torch.nn.utils import prune

    prune.l1_unstructured(model.head[3], "weight", 0.5)
    model.head[3].weight_orig.data.mul_(30)


@pytest.mark.parametrize(
    "change", [hooked, own_forward, own_predict, other_activation, no_block, wide_block, old_weight_norm, pruned]
)
def test_a_model_that_was_changed_is_drawn_as_it_is_now(change):
    model = small(size=9)
    change(model)
    assert torch.equal(sample(model, 3, seed=0), sample(model, 3, seed=0, method="naive"))
    with pytest.raises(ValueError, match="fixed-point"):
        sample(model, 3, method="cached")


def test_what_compile_and_data_parallel_wrap_is_sampled_with_its_labels():
    model = small(classes=2)
    expected = sample(model, 2, seed=0, label=1)
    for wrapped in (torch.compile(model), nn.DataParallel(model)):
        assert torch.equal(expected, sample(wrapped, 2, seed=0, label=1))


def test_every_part_of_a_module_is_left_in_its_mode():
    module = nn.Sequential(
        ph.MaskedConv2d("A", 1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), ph.MaskedConv2d("B", 8, 4, 1)
    ).eval()
    mean = module[1].running_mean.clone()
    first = sample(module, 4, shape=(5, 5), seed=0)
    module[0].train()
    assert torch.equal(first, sample(module, 4, shape=(5, 5), seed=0))
    ph.evaluate(module, first)
    assert [part.training for part in module] == [True, False, False, False]
    assert torch.equal(module[1].running_mean, mean)


def test_a_module_of_one_size_that_is_not_square():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.randn(4, 4, 6))

        def forward(self, x):
            return self.logits.expand(len(x), 4, 4, 6)

    images = sample(Fixed(), 2, shape=(4, 6))
    assert images.shape == (2, 1, 4, 6) and ph.evaluate(Fixed(), images) > 0


def test_a_module_can_be_trained_after_it_was_sampled():
    class Lazy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.grid = ph.MaskedConv2d("A", 1, 4, 3), None

        def forward(self, x):
            if self.grid is None:
                self.grid = torch.linspace(0, 1, 4).view(1, 4, 1, 1)
            return self.layer(x) * self.grid

    module = Lazy()
    ph.evaluate(module, sample(module, 2, shape=(4, 4)))
    module(torch.zeros(1, 1, 4, 4)).sum().backward()


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("bad", [math.nan, 0.0])
def test_probabilities_that_are_none_are_refused(bad, greedy):
    with pytest.raises(ValueError, match="NaN or all zero"):
        draw(torch.full((2, 4), bad), torch.tensor([0.1, 0.5]), greedy=greedy)


def test_the_smallest_temperature_is_greedy():
    pmf = torch.tensor([0.0, 0.3, 0.7])
    assert int(draw(pmf, torch.tensor(0.9), temperature=1e-310)) == 2
