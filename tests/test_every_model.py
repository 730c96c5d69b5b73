"""What every model promises, asked of every line of the register: grey and colour, with and without classes."""

import copy
import itertools
import json
import math
import warnings

import numpy as np
import pytest
import torch

import pixelhelpers as ph
from pixelhelpers.models.base import AutoregressiveModel
from pixelhelpers.models.heads import MixtureHead
from tests.register import (
    MODELS,
    a_label,
    every_case,
    every_model,
    fitting,
    images,
    random_model,
    random_settings,
    raster,
    small,
    some_labels,
    step_through,
)

NUMBERS = range(8)
TINY = ((2, 2), (1, 3), (1, 2), (1, 1))


def test_the_register_names_every_model_of_the_package():
    known = {kind.__name__ for kind in AutoregressiveModel._known.values()}
    assert known == {type(small(kind)).__name__ for kind in MODELS.values()} - {"RowsAbove"}
    assert known and all(getattr(ph, name) is AutoregressiveModel._known[name] for name in known)


# -- shapes and numbers ---------------------------------------------------------------------------


@every_model
@every_case
@pytest.mark.parametrize("height, width", [(6, 5), (1, 1), (1, 9)])
def test_parameters_and_predictions_have_the_shape_of_the_images(kind, case, height, width):
    model = small(kind, **case)
    x, label = images(model, 2, height, width), a_label(model)
    values, parameters = x.shape[1:], model(x, label)
    assert parameters.shape[0] == 2 and parameters.shape[-2:] == x.shape[-2:]
    numbers = (model.levels,) if model.image_channels == 1 else (model.levels, model.image_channels)
    if isinstance(model.head, MixtureHead):
        numbers = ((3 if model.image_channels == 1 else 10) * model.head.components,)
    assert parameters.shape == (2, *numbers, *x.shape[-2:])
    assert model.predict(x, label).batch_shape == x.shape
    assert model.predict(x, label).pmf().shape == (2, *values, model.levels)
    assert model.log_prob(x, label).shape == (2,)
    watched = model.conditional_parameters(x, label)
    assert watched.shape[-2:] == x.shape[-2:] and (watched.dim() == 4 or watched.shape[2] == model.image_channels)


@every_model
@every_case
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32, torch.float64])
def test_images_of_any_type_give_the_same_likelihood(kind, case, dtype):
    model = small(kind, **case)
    x, label = images(model), a_label(model)
    assert torch.equal(model(x.to(dtype), label), model(x, label))
    assert torch.equal(model.log_prob(x.to(dtype), label), model.log_prob(x, label))


@every_model
@every_case
def test_a_model_answers_in_its_own_precision(kind, case):
    model = small(kind, **case)
    x, label = images(model), a_label(model)
    double = model.log_prob(x, label)
    single = model.float().log_prob(x, label)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(single, double.float(), rtol=1e-4, atol=1e-3)


@every_model
@pytest.mark.parametrize("levels", [2, 3, 256])
def test_levels_are_scaled_evenly_onto_minus_one_to_one(kind, levels):
    model = small(kind, levels=levels)
    x = torch.arange(levels).view(1, 1, 1, levels)
    expected = torch.linspace(-1, 1, levels, dtype=torch.float64)
    torch.testing.assert_close(model.scale(x).flatten(), expected)
    assert torch.equal(model.scaled(torch.arange(levels)), model.scale(x).flatten())


@every_model
@pytest.mark.parametrize("number", NUMBERS)
def test_predict_gives_probabilities_and_log_prob_is_their_sum(kind, number):
    model = small(kind, number, **random_settings(number))
    x, label = images(model), some_labels(model, 4)
    predicted = model.predict(x, label)
    pmf = predicted.pmf()
    assert pmf.shape == (*x.shape, model.levels) and (pmf >= 0).all()
    torch.testing.assert_close(pmf.sum(-1), torch.ones(x.shape, dtype=torch.float64))
    chosen = pmf.gather(-1, x.unsqueeze(-1)).squeeze(-1).log()
    torch.testing.assert_close(predicted.log_prob(x), chosen)
    torch.testing.assert_close(model.log_prob(x, label), chosen.flatten(1).sum(1))
    assert (model.log_prob(x, label) < 0).all() and pmf.std() > 0.01


@every_model
@every_case
def test_log_prob_never_exceeds_zero_even_of_a_model_that_is_certain(kind, case):
    model = small(kind, **case)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "head." in name:
                parameter *= 300
    assert (model.log_prob(images(model, 50), a_label(model)) <= 0).all()


@every_model
@every_case
def test_predict_at_some_values_equals_these_of_the_whole_prediction(kind, case):
    model = small(kind, **case)
    x, label = images(model), a_label(model)
    whole = model.predict(x, label).pmf()
    for row, column, channel in [(0, 0, 0), (5, 4, model.image_channels - 1), (2, 3, 0)]:
        part = model.predict(x, label, at=(row, column, channel))
        assert part.batch_shape == (4,)
        torch.testing.assert_close(part.pmf(), whole[:, channel, row, column])
    part = model.predict(x, label, at=(slice(2, None), slice(None), slice(None)))
    torch.testing.assert_close(part.pmf(), whole[:, :, 2:])


@every_model
@every_case
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_an_image_is_scored_the_same_alone_and_in_a_batch(kind, case, dropout):
    model = small(kind, **case, dropout=dropout)
    x, label = images(model, 5), some_labels(model, 5)
    alone = [model.log_prob(x[k : k + 1], None if label is None else label[k : k + 1]) for k in range(5)]
    torch.testing.assert_close(model.log_prob(x, label), torch.cat(alone))


@every_model
@every_case
def test_gradients_reach_every_parameter(kind, case):
    model = small(kind, **case)
    model.log_prob(images(model, 20), some_labels(model, 20)).sum().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


@every_model
@every_case
def test_an_order_ranks_every_value_and_channels_one_after_the_other(kind, case):
    model = small(kind, **case)
    shape = fitting(model, 6, 8)
    order = model.order(shape)
    assert order.shape == (model.image_channels, *shape) and order.dtype == torch.long
    assert torch.equal(order, model.order((model.image_channels, *shape)))
    assert order.unique().tolist() == list(range(int(order.max()) + 1))
    assert all((after > before).all() for before, after in itertools.pairwise(order))
    assert order[:, 0, 0].tolist() == list(range(model.image_channels))  # the first pixel comes first


@pytest.mark.parametrize("name", ["PixelCNN", "GatedPixelCNN", "PixelCNNPlusPlus", "PixelSNAIL"])
def test_these_draw_in_raster_order_then_by_channel(name):
    assert raster(small(MODELS[name], image_channels=3)) and not raster(small(MODELS["MultiscalePixelCNN"]))


# -- proofs -----------------------------------------------------------------------------------------


@every_model
@pytest.mark.parametrize("number", NUMBERS)
def test_every_model_is_causal_in_space_and_colour_in_its_own_order(kind, number):
    model = random_model(kind, number)
    ph.check_causal(model, (model.image_channels, *fitting(model, *((4, 5), (3, 6))[number % 2])))


@every_model
@every_case
@pytest.mark.parametrize("number", range(2))
def test_probabilities_sum_to_one_in_every_class(kind, case, number):
    settings = random_settings(number) | {"levels": 3 - (case.get("image_channels") == 3), "image_channels": 1} | case
    model = small(kind, number, **settings)
    shape = next((side for side in TINY if fitting(model, *side) == side), None)
    for label in range(model.classes or 1):
        total = ph.total_probability(
            model, (model.image_channels, *shape), model.levels, label if model.classes else None
        )
        assert math.isclose(total, 1, rel_tol=1e-9)


@every_model
@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 5e-4)], ids=str)
def test_stepping_equals_forward(kind, number, dtype, tolerance):
    model = random_model(kind, number).to(dtype)
    x = images(model, 1 + number % 4, 1 + number % 7, 1 + (3 * number) % 8, seed=number)
    stepped, whole = step_through(model, x, some_labels(model, len(x)))
    assert ((stepped - whole).abs() < tolerance * whole.abs().clamp(min=1)).all() and whole.std() > 1e-3


@pytest.mark.parametrize("name", ph.list_pretrained())
def test_stepping_equals_forward_for_shipped_weights(name):
    """In double precision it does; in single, it is as near to that as the whole pass, within a small factor."""
    model = ph.load_pretrained(name)
    x, label = ph.load_images("digits").test[:4], some_labels(model, 4)
    exact_step, exact = step_through(copy.deepcopy(model).double(), x, label)
    assert (exact_step - exact).abs().max() < 1e-9
    stepped, whole = step_through(model, x, label)
    assert (stepped - exact).abs().max() < 5 * (whole - exact).abs().max() < 0.01


@every_model
@every_case
def test_all_proofs_of_check_model_hold(kind, case):
    report = ph.check_model(small(kind, **{"levels": 2 if "image_channels" in case else 4} | case), (6, 6))
    assert {row["answer"] for row in report} == {"holds"} and len(report) == 6


# -- what is refused --------------------------------------------------------------------------------


@every_model
@every_case
def test_images_that_were_scaled_already_are_refused(kind, case):
    model = small(kind, **case)
    with pytest.raises(ValueError, match=r"fractions such as 0\.\d+: give levels, integers from 0 to 4"):
        model.log_prob(images(model) / 5, a_label(model))


@every_model
@pytest.mark.parametrize("shape", [(4, 6, 6), (4, 2, 6, 6), (4, 1, 6)])
def test_images_of_another_shape_are_refused(kind, shape):
    with pytest.raises(ValueError, match=r"images have shape .*: give \[N, 1, height, width\]"):
        small(kind)(torch.zeros(shape, dtype=torch.long))


@every_model
@pytest.mark.parametrize(
    "setting, words",
    [
        ({"levels": 1}, "levels is 1: give at least 2"),
        ({"levels": 2.5}, "levels is 2.5: give a whole number"),
        ({"dropout": 1.0}, "dropout is 1.0: give a number from 0 to below 1"),
        ({"dropout": -0.1}, "dropout is -0.1: give a number from 0 to below 1"),
        ({"hidden": 0}, "hidden is 0: give"),
        ({"blocks": -1}, "blocks is -1: give at least"),
        ({"image_channels": 0}, "image_channels is 0"),
        ({"image_size": 0}, "image_size is 0"),
        ({"classes": 0}, "classes is 0: give at least 1, or None"),
    ],
    ids=str,
)
def test_bad_settings_are_refused_by_name(kind, setting, words):
    with pytest.raises(ValueError, match=words):
        small(kind, **setting)


@every_model
def test_whatever_is_given_for_a_number_is_built_with_and_saved_or_refused_by_name(kind, tmp_path):
    for name, usual in {"levels": 5, "image_size": 8, "hidden": 12, "blocks": 2, "classes": 3, "dropout": 0.5}.items():
        odd = [True, np.bool_(True), "3", b"3", 2.5, 1e400, math.nan, 1j, -3, (), [3], {}, np.array([3]), object()]
        for value in [*odd, None] if name not in ("classes", "image_size") else odd:
            with pytest.raises((ValueError, TypeError)) as refused:
                small(kind, **{name: value})
            words = str(refused.value)
            assert name in words and "\n" not in words and " is " in words, (value, words)
        for value in (
            np.array(usual),
            np.float32(usual) if name == "dropout" else np.int16(usual),
            torch.tensor(usual),
        ):
            model, expected = small(kind, **{name: value}), small(kind, **{name: usual})
            assert model.settings == expected.settings and type(model.settings[name]) is type(usual)
            assert all(map(torch.equal, model.parameters(), expected.parameters()))
    model.save_pretrained(tmp_path)
    assert type(model).from_pretrained(tmp_path).settings == model.settings


# -- labels -----------------------------------------------------------------------------------------


@every_model
@pytest.mark.parametrize("channels", [1, 3])
def test_labels_act_and_come_as_one_number_or_one_per_image(kind, channels):
    model = small(kind, classes=3, image_channels=channels)
    x = images(model, 3)
    one = model.log_prob(x, 2)
    assert torch.equal(one, model.log_prob(x, torch.tensor(2)))
    assert torch.equal(one, model.log_prob(x, torch.tensor([2, 2, 2], dtype=torch.uint8)))
    mixed = model.log_prob(x, torch.tensor([0, 2, 1]))
    assert mixed[1] == one[1] and (mixed != one).tolist() == [True, False, True]


@every_model
@pytest.mark.parametrize(
    "label, words",
    [
        (None, "label is missing: the model knows 3 classes"),
        (3, "label runs from 3 to 3: the model knows 0 … 2"),
        (-1, "label runs from -1 to -1"),
        (torch.tensor([0, 1, 2, 5]), "label runs from 0 to 5"),
        (torch.tensor([0, 1]), r"shape \(2,\): give one integer, or 4 of them"),
        (torch.tensor([[0, 1, 2, 0]]), r"shape \(1, 4\)"),
        (1.0, "label has type torch.float32"),
    ],
)
def test_wrong_labels_are_refused(kind, label, words):
    model = small(kind, classes=3)
    for ask in (model, model.predict, model.log_prob):
        with pytest.raises(ValueError, match=words):
            ask(images(model), label)


@every_model
def test_a_label_for_a_model_without_classes_is_refused(kind):
    model = small(kind)
    for ask in (model, model.predict, model.log_prob):
        with pytest.raises(ValueError, match=r"built without classes: leave it out"):
            ask(images(model), 1)


# -- settings and files -----------------------------------------------------------------------------


@every_model
@every_case
def test_settings_are_what_the_constructor_was_given_and_build_an_equal_model(kind, case):
    model = small(kind, **case, dropout=0.3)
    assert model.settings.items() >= {"levels": 5, "hidden": 12, "blocks": 1, "dropout": 0.3, **case}.items()
    again = type(model)(**model.settings)
    assert again.settings == model.settings
    shapes = {name: weight.shape for name, weight in model.state_dict().items()}
    assert {name: weight.shape for name, weight in again.state_dict().items()} == shapes


@every_model
@every_case
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_saved_model_comes_back_bit_by_bit_in_silence(kind, case, dropout, tmp_path, capfd):
    model = small(kind, **case, image_size=10, dropout=dropout).float()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.train().save_pretrained(tmp_path / "made" / "on the way")
        again = type(model).from_pretrained(str(tmp_path / "made" / "on the way"))
    assert capfd.readouterr() == ("", "")
    assert type(again) is type(model) and again.settings == model.settings and not again.training
    assert again.image_size == 10 and again.card is None
    weights = model.state_dict()
    assert weights.keys() == again.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())
    x, label = images(model), a_label(model)
    assert torch.equal(again.log_prob(x, label), model.eval().log_prob(x, label))


@every_model
@pytest.mark.parametrize(("name", "number"), [("hidden", 12 * 10**5), ("levels", 10**9), ("blocks", 10**9)])
def test_a_strangers_configuration_is_refused_before_it_costs_memory(kind, name, number, tmp_path):
    """Built, the network would have terabytes, or never be finished."""
    model = small(kind)
    if not type(model).__module__.startswith("pixelhelpers."):
        pytest.skip("a class of one's own is trusted with its settings")
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"settings": config["settings"] | {name: number}}))
    with pytest.raises(ValueError, match=r"describes|lacks the weight|more layers than there are weights|levels is 10"):
        AutoregressiveModel.from_pretrained(tmp_path)
    assert torch.is_grad_enabled()  # wherever the constructor was stopped


# -- training and drawing ---------------------------------------------------------------------------


@every_model
@every_case
def test_every_model_learns(kind, case):
    torch.manual_seed(0)
    model = kind(levels=4, hidden=12, blocks=1, image_size=6, **case)
    label = None if model.classes is None else torch.arange(64) % 3
    levels = torch.arange(64).view(-1, 1, 1, 1).expand(64, model.image_channels, 6, 6) % 3
    few = ph.Images(
        **{part: levels.to(torch.uint8).contiguous() for part in ("train", "valid", "test")},
        **{f"{part}_labels": torch.zeros(64).long() if label is None else label for part in ("train", "valid", "test")},
        name="flat",
        levels=4,
        classes=("a", "b", "c"),
    )
    before = ph.evaluate(model, few.valid, few.valid_labels)
    history = ph.fit(
        model, few, epochs=4, optimizer="adam", batch_size=8, lr=0.01, precision="no", device="cpu", progress=False
    )
    assert history[-1]["valid"] < before - 0.3
    assert ph.evaluate(model, few.valid, few.valid_labels) == pytest.approx(history[-1]["valid"], abs=1e-4)
