"""`check_model` passes honest models, of anybody, and names the fault of every other."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pixelhelpers as ph
from pixelhelpers.checking import Report
from pixelhelpers.models.gated import GatedStep
from pixelhelpers.models.heads import SoftmaxHead
from pixelhelpers.models.pixelcnn import PixelCNNStep
from tests.register import small
from tests.sixth_model import RowsAbove


def answers(report):
    return {row["question"]: row["answer"] for row in report}


def own(channels=1, levels=4):
    """A learner's module, honest."""
    torch.manual_seed(0)
    first = ph.MaskedConv2d("A", channels, 6 * channels, 3, channels)
    second = ph.MaskedConv2d("B", 6 * channels, levels * channels, 1, channels)
    layers = [first, nn.ReLU(), second]
    if channels > 1:
        layers.append(nn.Unflatten(1, (channels, levels)))

    class Own(nn.Sequential):
        def forward(self, x):
            out = super().forward(x)
            return out if channels == 1 else out.transpose(1, 2)

    return Own(*layers)


# -- honest models ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ph.list_pretrained())
def test_shipped_weights_pass(name):
    model = ph.load_pretrained(name)
    mode, weights = model.training, {key: value.clone() for key, value in model.state_dict().items()}
    asked = answers(ph.check_model(model, labels=None if model.classes is None else [3]))
    refuses = name.startswith("multiscale")  # 4 x 4 pixels are its smallest image
    assert asked.pop("probabilities sum to 1") == ("not asked" if refuses else "holds")
    assert set(asked.values()) == {"holds"} and len(asked) == 5
    assert model.training == mode and all(torch.equal(weights[key], value) for key, value in model.state_dict().items())


class Forbids(nn.Module):
    """Gives the last level no chance at all."""

    def forward(self, x):
        return x.masked_fill(torch.arange(x.shape[1]).view(-1, 1, 1) == x.shape[1] - 1, -torch.inf)


@pytest.mark.parametrize("last", [Forbids, lambda: nn.utils.weight_norm(nn.Conv2d(4, 4, 1))], ids=["-inf", "old hook"])
def test_logits_of_minus_infinity_and_old_hooks_pass(last):
    module = nn.Sequential(own(), last())
    module(torch.zeros(1, 1, 5, 5))  # leaves a tensor in the hook's layer that cannot be copied
    asked = answers(ph.check_model(module, (5, 5)))
    assert asked.pop("a step equals forward") == "not asked" and set(asked.values()) == {"holds"}


@pytest.mark.parametrize("channels", [1, 3])
def test_a_learners_own_module_passes(channels):
    report = ph.check_model(own(channels), (channels, 6, 6))
    asked = answers(report)
    assert asked.pop("a step equals forward") == "not asked"
    assert asked.pop("probabilities sum to 1") == "holds"
    assert set(asked.values()) == {"holds"}
    drawn = next(row["detail"] for row in report if row["question"].startswith("all methods"))
    assert "naive, cropped, fixed-point" in drawn


def test_a_subclass_passes_and_is_drawn_by_what_it_computes():
    class Calmer(ph.PixelCNN):
        def __init__(self, calm=2.0, **settings):
            super().__init__(**settings)
            self.calm = calm

        def forward(self, x, label=None):
            return super().forward(x, label) / self.calm

    torch.manual_seed(0)
    model = Calmer(calm=3.0, levels=4, hidden=8, blocks=1, classes=3)
    assert model.settings == {"calm": 3.0, "levels": 4, "hidden": 8, "blocks": 1, "classes": 3}
    asked = answers(ph.check_model(model, (6, 6)))
    assert asked.pop("a step equals forward") == "not asked" and set(asked.values()) == {"holds"}


def test_wrapped_models_pass_and_a_size_is_found_that_the_model_takes():
    ph.check_model(nn.DataParallel(small(ph.PixelCNN)))
    report = ph.check_model(ph.MultiscalePixelCNN(levels=2, hidden=6, blocks=1, base=1, doublings=4))
    assert "1×16×16" in report[0]["detail"]


def test_a_module_that_refuses_double_precision_is_asked_what_single_can_answer():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = own()

        def forward(self, x):
            return self.layers(x.float())  # a matrix product of two precisions fails

    asked = answers(ph.check_model(Single(), (5, 5)))
    refused = {"probabilities sum to 1", "all methods draw equal images", "a step equals forward"}
    assert {question for question, answer in asked.items() if answer == "not asked"} == refused


def test_images_that_tell_nothing_are_not_compared():
    """A model that paints black whatever the numbers would pass any comparison of images."""

    class Black(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = ph.MaskedConv2d("A", 1, 2, 3)

        def forward(self, x):
            return torch.stack([torch.zeros_like(x[:, 0]), -1e30 + 1e28 * self.last(x)[:, 0].tanh()], 1)

    assert answers(ph.check_model(Black().double(), (5, 5)))["all methods draw equal images"] == "not asked"


def test_a_report_shows_as_a_table():
    report = ph.check_model(small(ph.PixelCNN), (5, 5))
    assert isinstance(report, Report) and [row["answer"] for row in report] == ["holds"] * 6
    lines = repr(report).splitlines()
    assert len(lines) == 7 and lines[0].split() == ["question", "answer", "detail"]
    html = report._repr_html_()
    assert html.count("<tr>") == 7 and "<th>question</th>" in html and "<td>causal</td>" in html


class Places(nn.Module):
    """Honest, and of one size: a table of its own for every place, or places that count from the bottom."""

    def __init__(self, table):
        super().__init__()
        self.layers, self.table = own(), table

    def forward(self, x):
        return self.layers(x) + self.table(x).to(x)


@pytest.mark.parametrize(
    "table",
    [
        lambda x: torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0)) + 0 * x[:, :1, :8],
        lambda x: torch.linspace(-1, 1, x.shape[2])[:, None] * torch.arange(4).view(4, 1, 1),
    ],
    ids=["fixed size", "counts from the bottom"],
)
def test_honest_modules_that_cannot_be_cropped_pass(table):
    report = ph.check_model(Places(table), (8, 8))
    drawn = next(row for row in report if row["question"].startswith("all methods"))
    assert drawn["answer"] == "holds" and drawn["detail"].startswith("naive, fixed-point")


def test_a_constructor_that_wants_more_than_a_file_holds_is_said_and_trains_all_the_same(tmp_path):
    class Act(ph.PixelCNN):
        def __init__(self, act, *unused, **settings):
            super().__init__(**settings)
            self.act = act

        def forward(self, x, label=None):
            return self.act(super().forward(x, label))

    model = Act(torch.tanh, 1, 2, levels=4, hidden=8, blocks=1)
    assert model.settings == {"levels": 4, "hidden": 8, "blocks": 1}
    report = answers(ph.check_model(model, (5, 5)))
    assert report["comes back from a file as it was"] == "not asked"
    assert {answer for question, answer in report.items() if question.startswith(("causal", "all"))} == {"holds"}
    model.save_pretrained(tmp_path)
    assert ph.PixelCNN(**model.settings).settings["hidden"] == 8


# -- faults, each named for what it is ---------------------------------------------------------------


def type_b_stem():
    model = small(ph.PixelCNN, levels=4)
    model.stem = ph.MaskedConv2d("B", 1, 12, 7).double()
    return model


def leak_of_one_class():
    class Leaky(RowsAbove):
        def forward(self, x, label=None):
            label = self.labels(label, len(x))
            seen = (label == 2).view(-1, 1, 1, 1) * self.scale(x)  # the pixel itself, for one class only
            return super().forward(x, label) + seen

    return Leaky(levels=4, classes=3)


def leak_in_colour():
    class Leaky(RowsAbove):
        def forward(self, x, label=None):
            return super().forward(x, label) + self.scale(x)[:, None, [1, 0, 2]]  # red sees green

    return Leaky(levels=2, image_channels=3)


def leak_in_training_mode():
    return nn.Sequential(ph.MaskedConv2d("A", 1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), ph.MaskedConv2d("B", 8, 4, 1))


def ones_own_order_broken():
    class Backwards(RowsAbove):
        def order(self, shape):
            return super().order(shape).flip(1)

    return Backwards(levels=4)


def dead():
    model = small(ph.PixelCNN, levels=4)
    nn.init.zeros_(model.head[3].weight)
    return model


def probabilities_that_do_not_sum_to_one():
    class Generous(SoftmaxHead):
        @staticmethod
        def log_prob(logits, levels):
            return SoftmaxHead.log_prob(logits, levels) + 0.1

    model = RowsAbove(levels=4)
    model.head = Generous(16, 4)
    return model


def log_prob_of_another_model():
    class Reversed(RowsAbove):
        def log_prob(self, x, label=None):
            return super().log_prob(x.flip(-1), label)  # still sums to 1 over all images

    torch.manual_seed(3)
    return Reversed(levels=4)


def a_step_that_forgets(monkeypatch):
    monkeypatch.setattr(PixelCNNStep, "put", lambda self, front, levels: self.stem.put(front, levels[:, None] * 0.0))
    return small(ph.PixelCNN, levels=4)


def a_step_of_another_class(monkeypatch):
    plain = GatedStep.__init__
    monkeypatch.setattr(
        GatedStep, "__init__", lambda self, model, wave, label: plain(self, model, wave, label.clamp(max=1))
    )
    return small(ph.GatedPixelCNN, levels=4, classes=3)


def a_method_that_draws_something_else(monkeypatch):
    from pixelhelpers import sampling

    plain = sampling._cached
    monkeypatch.setattr(sampling, "_cached", lambda job: plain(job).flip(0))
    return small(ph.PixelCNN, levels=4)


def weights_that_no_file_keeps():
    class Forgetful(RowsAbove):
        def __init__(self, **settings):
            super().__init__(**settings)
            self.shift = torch.randn(1, 4, 1, 1)  # neither a parameter nor a buffer

        def forward(self, x, label=None):
            logits = super().forward(x, label)
            return logits + self.shift.to(logits)

    return Forgetful(levels=4)


def another_answer_when_asked_for_one_value():
    class Calm(RowsAbove):
        def predict(self, x, label=None, at=None):
            return SoftmaxHead.conditionals(0.3 * self(x, label), x, at) if at else super().predict(x, label)

    return small(Calm, levels=4)


def a_forward_that_takes_the_first_class_for_all():
    class First(RowsAbove):
        def forward(self, x, label=None):
            return super().forward(x, self.labels(label, len(x))[:1].expand(len(x)))

    return small(First, levels=4, classes=3)


def a_step_that_takes_the_first_class_for_all(monkeypatch):
    plain = GatedStep.__init__
    monkeypatch.setattr(
        GatedStep, "__init__", lambda self, model, wave, label: plain(self, model, wave, label[:1].expand(len(label)))
    )
    return small(ph.GatedPixelCNN, levels=4, classes=3)


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (type_b_stem, ph.CausalityError, "PixelCNN: output .* type B stem"),
        (leak_of_one_class, ph.CausalityError, r"type B stem.*\(class 2\)"),
        (leak_in_colour, ph.CausalityError, "channel"),
        (leak_in_training_mode, ph.CausalityError, "BatchNorm2d .* in train mode"),
        (ones_own_order_broken, ph.CausalityError, "another order"),
        (dead, ph.CausalityError, "dead head"),
        (probabilities_that_do_not_sum_to_one, ph.ModelError, r"all 256 images of 1×2×2 sum to 1\.105"),
        (log_prob_of_another_model, ph.ModelError, "log_prob differs from the sum over `predict`"),
        (a_step_that_forgets, ph.ModelError, "a step differs from `forward`"),
        (a_step_of_another_class, ph.ModelError, r"a step differs from `forward`.*\(class 2\)"),
        (a_method_that_draws_something_else, ph.ModelError, "method 'cached' draws other images than 'naive'"),
        (
            another_answer_when_asked_for_one_value,
            ph.ModelError,
            r"predict\(at=.* differs from that value of the whole",
        ),
        (a_forward_that_takes_the_first_class_for_all, ph.ModelError, "differs with the others of its batch"),
        (a_step_that_takes_the_first_class_for_all, ph.ModelError, "a step differs from `forward`"),
        (weights_that_no_file_keeps, ph.ModelError, "saved and loaded, it gives other likelihoods"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_fault_is_named(fault, kind, words, monkeypatch):
    model = fault(monkeypatch) if fault.__code__.co_argcount else fault()
    with pytest.raises(kind, match=f"(?s){words}"):
        ph.check_model(model, (6, 6))


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"shape": (6,)}, r"shape is \(6,\): give \(height, width\)"),
        ({"shape": (0, 6)}, r"shape is \(0, 6\)"),
        ({"shape": (3, 6, 6)}, "image_channels is 3, but the model was built with image_channels=1"),
        ({"levels": 9}, "levels is 9, but the model was built with levels=4"),
        ({"labels": [3]}, "label runs from 3 to 3"),
        ({"labels": []}, "give one class or more, or None"),
        ({"shape": 8}, "shape is 8: give"),
        ({"shape": (6, 6.0)}, r"shape is \(6, 6.0\): give"),
        ({"levels": 4.0}, "levels is 4.0: give a whole number"),
        ({"labels": 3}, "label runs from 3 to 3"),
    ],
)
def test_questions_that_do_not_fit_the_model_are_refused(keywords, words):
    with pytest.raises(ValueError, match=words):
        ph.check_model(small(ph.PixelCNN, levels=4, classes=3), **keywords)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"give a torch.nn.Module"):
        ph.check_model(F.relu)
    with pytest.raises(ValueError, match=r"does not take images \(1, 1, 28, 28\).* give shape=\(C, H, W\) here"):
        ph.check_model(own(channels=2))
    with pytest.raises(ValueError, match=r"does not take images of 1×6×6: .* give 4 or 8"):
        ph.check_model(ph.MultiscalePixelCNN(levels=4, hidden=6, blocks=1), (6, 6))


def test_a_leak_further_away_than_a_small_image_is_wide_is_found_at_the_models_own_size():
    class FarLeak(RowsAbove):
        def forward(self, x, label=None):
            return super().forward(x, label) + F.pad(self.scale(x)[..., 11:], (0, min(11, x.shape[-1])))

    model = FarLeak(levels=4, image_size=14)
    for shape in (None, (2, 14)):
        with pytest.raises(ph.CausalityError, match="which is not drawn before it"):
            ph.check_model(model, shape)
    assert answers(ph.check_model(model, (8, 8)))["causal"] == "holds"  # what is asked is what is said
    assert math.isclose(ph.total_probability(model, (2, 2), 4), 1, rel_tol=1e-6)
