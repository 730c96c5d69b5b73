"""What must hold of training: it learns, it survives what goes wrong, and it ends the same either way."""

import dataclasses
import functools
import inspect
import json
import math
import os
import random
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import textwrap
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, load_file, save
from torch import nn

import pixelhelpers as ph
from pixelhelpers import __main__, files
from pixelhelpers.models.base import Recipe
from pixelhelpers.progress import progress_bar
from pixelhelpers.training import loop, make_optimizer, schedule
from pixelhelpers.training.optimizers import MuonWithAdam
from tests import register
from tests.register import every_model
from tests.test_my_notebooks import git


@pytest.fixture(scope="module")
def tiny():
    """Images of 6x6 pixels with 4 levels, in which each row repeats one level; labels say which half it is in."""
    generator = torch.Generator().manual_seed(0)

    def images(count):
        rows = torch.randint(0, 4, (count, 1, 6, 1), dtype=torch.uint8, generator=generator)
        return rows.expand(count, 1, 6, 6).contiguous(), (rows[:, 0, 0, 0] > 1).long()

    (train, train_labels), (valid, valid_labels), (test, test_labels) = images(96), images(32), images(32)
    return ph.Images(
        train=train,
        valid=valid,
        test=test,
        train_labels=train_labels,
        valid_labels=valid_labels,
        test_labels=test_labels,
        name="rows",
        levels=4,
        classes=("dark", "bright"),
    )


def small(seed=0, **keywords):
    torch.manual_seed(seed)
    return ph.PixelCNN(levels=4, hidden=8, blocks=1, image_size=6, **keywords)


def fit(model, images, epochs=2, precision="no", optimizer="adam", batch_size=16, **keywords):
    keywords = {"epochs": epochs, "precision": precision, "optimizer": optimizer, "batch_size": batch_size, **keywords}
    if optimizer == "adam":
        keywords = {"lr": 1e-3, **keywords}
    return ph.fit(model, images, progress=False, device="cpu", **keywords)


OPTIMIZERS = {
    "adam": "adam",
    "muon": "muon",
    "sgd": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "without memory": functools.partial(torch.optim.SGD, lr=0.1),  # which it remembers as None
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def without_time(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


# -- bits per dimension -------------------------------------------------------------------------------


def test_a_uniform_guess_costs_log2_levels_bits():
    model = small()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    x = torch.randint(0, 4, (5, 1, 6, 6))
    assert torch.allclose(ph.bits_per_dim(model.log_prob(x), x), torch.full((5,), 2.0))
    assert math.isclose(ph.evaluate(model, x), 2.0, rel_tol=1e-6)


def test_evaluate_is_the_mean_over_images_whatever_the_batch(tiny):
    model = small(dropout=0.5).train()
    expected = ph.bits_per_dim(model.eval().log_prob(tiny.valid), tiny.valid).mean().item()
    model.train()
    for batch_size in (1, 7, 32, 100):
        assert math.isclose(ph.evaluate(model, tiny.valid, batch_size=batch_size), expected, rel_tol=1e-5)
    assert model.training


def test_a_learners_own_module_scores_like_the_model_inside(tiny):
    model = small()

    assert math.isclose(ph.evaluate(nn.Sequential(model), tiny.valid), ph.evaluate(model, tiny.valid), rel_tol=1e-6)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(2, 1, 6, 6), "torch.float32"),
        (torch.zeros(2, 6, 6, dtype=torch.uint8), r"\(2, 6, 6\)"),
        (torch.zeros(0, 1, 6, 6, dtype=torch.uint8), r"\(0, 1, 6, 6\)"),
        (torch.full((2, 1, 6, 6), 4, dtype=torch.uint8), "from 4 to 4"),
        (torch.zeros(2, 3, 6, 6, dtype=torch.uint8), "3 channels"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, words, tiny):
    with pytest.raises(ValueError, match=words):
        ph.evaluate(small(), images)
    with pytest.raises(ValueError, match=words):
        fit(small(), ph.Images(images, images, levels=4))


def test_labels_are_asked_for(tiny):
    with pytest.raises(ValueError, match="label is missing"):
        ph.evaluate(small(classes=2), tiny.valid)
    assert ph.evaluate(small(classes=2), tiny.valid, tiny.valid_labels) > 0
    assert ph.evaluate(small(), tiny.valid, tiny.valid_labels) > 0


# -- learning -----------------------------------------------------------------------------------------


def test_training_learns_and_leaves_the_best_weights_in_the_model(tiny):
    model = small()
    before = ph.evaluate(model, tiny.valid)
    history = fit(model, tiny, epochs=15, lr=0.02)
    after = ph.evaluate(model, tiny.valid)
    assert after < 0.8 < 1.5 < before  # the first pixel of a row costs 2 bits, the other five nothing: 1/3
    assert math.isclose(after, min(row["valid"] for row in history), rel_tol=1e-5)
    assert not model.training
    assert [row["epoch"] for row in history] == list(range(1, 16))
    assert "valid" in str(history) and history._repr_html_().count("<tr>") == 16


def test_classes_are_used(tiny):
    model = small(classes=2)
    fit(model, tiny, epochs=15, lr=0.02)
    right = ph.evaluate(model, tiny.valid, tiny.valid_labels)
    assert right < ph.evaluate(model, tiny.valid, 1 - tiny.valid_labels) - 0.05


def test_a_learners_own_module_is_trained_in_place(tiny):
    module = nn.Sequential(ph.MaskedConv2d("A", 1, 8, 7), nn.ReLU(), nn.Conv2d(8, 4, 1))
    before = ph.evaluate(module, tiny.valid)
    fit(module, tiny, epochs=5, lr=0.02)
    assert ph.evaluate(module, tiny.valid) < before


def test_same_seed_same_run_and_the_callers_random_numbers_are_left_alone(tiny):
    runs = [small(dropout=0.3) for _ in range(3)]
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    histories = [fit(model, tiny, seed=seed) for model, seed in zip(runs, (4, 4, 5), strict=True)]
    assert torch.equal(torch.rand(3), expected)
    assert without_time(histories[0]) == without_time(histories[1]) != without_time(histories[2])
    assert same_weights(runs[0], runs[1]) and not same_weights(runs[0], runs[2])


def test_augmentation_changes_training_images_and_never_validation_images(tiny):
    seen = []

    def darkened(x):
        seen.append(len(x))
        return x // 2

    history = fit(small(), tiny, augment=darkened)
    dark = fit(small(), dataclasses.replace(tiny, train=tiny.train // 2))
    assert without_time(history) == without_time(dark)
    assert sum(seen) == 1 + 2 * len(tiny.train)  # one image to see whether it fits, then every epoch's
    assert without_time(fit(small(), tiny, augment=lambda x: x)) == without_time(fit(small(), tiny))


def test_random_augmentation_follows_the_seed_and_leaves_the_callers_random_numbers_alone(tiny):
    shift = functools.partial(ph.data.random_shift, most=2)
    model, before = small(), torch.get_rng_state()
    first = fit(model, tiny, augment=shift)
    assert torch.equal(torch.get_rng_state(), before)
    again, other = fit(small(), tiny, augment=shift), fit(small(), tiny, augment=shift, seed=1)
    assert without_time(first) == without_time(again) != without_time(other)


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        (lambda x: x.float(), r"augment made torch.float32 \(1, 1, 6, 6\) of torch.uint8"),
        (lambda x: x[..., :-1], r"\(1, 1, 6, 5\)"),
        (lambda x: None, "augment made NoneType"),
        (lambda x: x.clamp(min=4), "from 4 to 4: they must stay levels, integers from 0 to 3"),
    ],
)
def test_augmentation_that_makes_no_images_is_refused_before_training(augment, words, tiny, tmp_path):
    with pytest.raises(ValueError, match=words):
        fit(small(), tiny, augment=augment, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@every_optimizer
def test_every_optimizer_learns_and_the_history_says_which_it_was(optimizer, tiny):
    model = small()
    before = ph.evaluate(model, tiny.valid)
    history = fit(model, tiny, optimizer=optimizer, epochs=15, **({"lr": 0.02} if optimizer == "adam" else {}))
    assert ph.evaluate(model, tiny.valid) < before - 0.05
    name = optimizer if isinstance(optimizer, str) else "SGD"
    assert history.recipe.startswith(name) and "16 images a step" in history.recipe


def test_each_group_of_an_optimizer_rises_to_its_own_rate_and_falls_to_zero(tiny):
    rates = []

    def two_rates(named):
        stem = [weight for name, weight in named if name.startswith("stem")]
        rest = [weight for name, weight in named if not name.startswith("stem")]
        optimizer = torch.optim.SGD([{"params": stem, "lr": 0.01}, {"params": rest, "lr": 0.1}])
        optimizer.register_step_pre_hook(lambda *_: rates.append([group["lr"] for group in optimizer.param_groups]))
        return optimizer

    history = fit(small(), tiny, optimizer=two_rates, epochs=20)
    assert all(math.isclose(10 * stem, rest) for stem, rest in rates) and rates[0] == [0, 0]
    assert 0.009 < max(stem for stem, _ in rates) <= 0.01 and rates[-1][1] < 0.001
    assert history.recipe == "SGD, 16 images a step, rate 0.1" and history[-1]["lr"] == 0


def test_what_was_measured_for_the_family_is_the_default(tiny, monkeypatch):
    recipes = (Recipe("muon", 8, 0.02), Recipe("adam", 24, 0.005))
    monkeypatch.setattr(ph.PixelCNN, "recipes", recipes)

    def recipe(**keywords):
        return ph.fit(small(), tiny, epochs=1, progress=False, device="cpu", precision="no", **keywords).recipe

    assert recipe() == "muon, 8 images a step, rate 0.02"
    assert recipe(optimizer="adam") == "adam, 24 images a step, rate 0.005"
    assert recipe(optimizer="adam", lr=0.1, batch_size=4) == "adam, 4 images a step, rate 0.1"
    assert recipe(batch_size=4) == "muon, 4 images a step, rate 0.02"
    assert recipe(optimizer=OPTIMIZERS["without memory"]) == "SGD, 8 images a step, rate 0.1"
    monkeypatch.setattr(ph.PixelCNN, "recipes", recipes[:1])  # no other's rate is taken for Adam's
    with pytest.raises(ValueError, match="optimizer is 'adam', for which PixelCNN has no recipe: give lr, too"):
        recipe(optimizer="adam")


@pytest.mark.parametrize("parts", [1, 2, 5, 12])
def test_a_score_within_an_epoch_changes_no_step(parts, tiny):
    """The same steps, whatever the number of scores between them, and so the same weights."""
    whole, scored, seen = small(dropout=0.3), small(dropout=0.3), []
    fit(whole, tiny, batch_size=8)
    history = fit(scored, tiny, scores_per_epoch=parts, batch_size=8, augment=lambda x: (seen.append(len(x)), x)[1])
    assert seen == [1] + 24 * [8] and len(history) == 2 * parts
    epochs = [row["epoch"] for row in history]
    assert all(math.isclose(epoch, number / parts) for number, epoch in enumerate(epochs, start=1))
    assert str(epochs[parts - 1]) == "1" and str(epochs[-1]) == "2"
    assert history[-1]["lr"] == 0 and history[-1]["step"] == 24
    last = [history[number]["valid"] for number in (parts - 1, -1)]
    assert last == [row["valid"] for row in fit(small(dropout=0.3), tiny, batch_size=8)]
    assert min(last) > min(row["valid"] for row in history) or same_weights(whole, scored)


def test_fit_trains_by_the_optimizer_that_it_says(tiny, monkeypatch):
    made = []

    def noted(*arguments):
        made.append(make_optimizer(*arguments))
        return made[-1]

    monkeypatch.setattr(loop, "make_optimizer", noted)
    for optimizer in OPTIMIZERS.values():
        fit(small(), tiny, epochs=1, optimizer=optimizer)
    ph.fit(small(), tiny, epochs=1, progress=False, device="cpu", precision="no")
    default = {"muon": MuonWithAdam, "adam": torch.optim.AdamW}[ph.PixelCNN.recipes[0].optimizer]
    assert list(map(type, made)) == [torch.optim.AdamW, MuonWithAdam, torch.optim.SGD, torch.optim.SGD, default]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_masked_weights_are_not_trained(optimizer, tiny):
    model = small()
    before = model.stem.weight.detach().clone()
    fit(model, tiny, optimizer=OPTIMIZERS[optimizer])
    shut = ~model.stem.mask.expand_as(before)
    assert torch.equal(model.stem.weight[shut], before[shut])
    assert not torch.equal(model.stem.weight[~shut], before[~shut])


def test_early_stopping_waits_for_patience(tiny):
    history = fit(small(), tiny, epochs=30, lr=0.05, patience=2, seed=1)
    scores = [row["valid"] for row in history]
    if len(scores) < 30:
        assert scores.index(min(scores)) == len(scores) - 3
    stubborn = fit(small(), dataclasses.replace(tiny, valid=3 - tiny.valid.flip(-1)), epochs=40, lr=1e-9, patience=1)
    assert len(stubborn) < 40


def test_a_time_budget_ends_the_run(tiny):
    history = fit(small(), tiny, epochs=100_000, seconds=0.5)
    assert len(history) < 100_000 and history[-1]["lr"] < 1e-3


def test_the_schedule_rises_then_falls_to_zero():
    rates = [schedule(step / 1000) for step in range(1001)]
    top = rates.index(max(rates))
    assert max(rates) == 1 and rates[-1] == 0 and rates[0] == 0
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_mixed_precision_keeps_float32_weights_and_learns(optimizer, tiny):
    model = small()
    before = ph.evaluate(model, tiny.valid)
    fit(model, tiny, epochs=5, lr=0.02, precision="bf16")
    assert ph.evaluate(model, tiny.valid) < before
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_tensorboard_gets_every_row_of_the_history(tiny, tmp_path):
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install -e '.[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = fit(small(), tiny, folder=tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name in ("train", "valid", "lr"):
        logged = [(event.step, event.value) for event in events.Scalars(name)]
        assert logged == [(row["step"], pytest.approx(row[name], abs=1e-6)) for row in history]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": -1.0}, "lr is -1"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"ema": 1.0}, "ema is 1"),
        ({"clip": 0.0}, "clip is 0"),
        ({"precision": "half"}, "precision is 'half'"),
        ({"precision": "fp16"}, "needs a GPU"),
        ({"tensorboard": True}, "folder"),
        ({"optimizer": None, "lr": 0.1}, "lr is 0.1, but the optimizer is left to the default"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd': give one of"),
        ({"optimizer": OPTIMIZERS["sgd"], "lr": 0.1}, "lr is 0.1 beside a function"),
        ({"optimizer": OPTIMIZERS["sgd"], "weight_decay": 0.1}, "weight_decay is 0.1 beside a function"),
        ({"optimizer": lambda named: None}, "it must give a torch.optim.Optimizer"),
        ({"scores_per_epoch": 0}, "scores_per_epoch is 0"),
        ({"scores_per_epoch": 1.5}, "scores_per_epoch is 1.5"),
        ({"scores_per_epoch": 7}, "scores_per_epoch is 7, and an epoch has 6 steps of 16 images"),
        ({"optimizer": torch.optim.SGD(small().parameters(), lr=0.1)}, "optimizer is an object of SGD: give one of"),
        ({"optimizer": torch.optim.LBFGS}, "LBFGS, which computes losses by itself"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_training(keywords, words, tiny, tmp_path):
    model = small()
    model.register_forward_pre_hook(lambda module, inputs: pytest.fail("training began"))
    with pytest.raises((ValueError, TypeError), match=words):
        fit(model, tiny, folder=tmp_path / "run" if "tensorboard" not in keywords else None, **keywords)
    assert not (tmp_path / "run").exists()


# What people give for a number, a name or a function, and what no option is.
ODD = [True, False, 0, 1, 2, 2.0, -1, 0.5, 1.5, -0.5, 1e400, -1e400, float("nan"), 10**400, 2**48, 2**63, 2**64]
ODD += [Fraction(1, 2), Decimal("0.5"), 1j, "", "1", "yes", b"1", (), [1], {}, object(), torch.device("cpu")]
ODD += [*map(np.int64, (-1, 2)), np.uint8(2), np.float32(0.5), np.float64("nan"), np.bool_(True), np.array([2, 3])]
ODD += [torch.tensor(2), torch.tensor(0.5), torch.tensor(True), torch.tensor([2]), torch.tensor([0.5, 0.5]), "bf16"]
ODD += [lambda *given: given[0]]


@pytest.mark.parametrize(
    "option", [name for name in inspect.signature(ph.fit).parameters if name not in ("model", "images", "folder")]
)
def test_whatever_is_given_for_an_option_is_trained_with_and_saved_or_refused_at_once(
    option, tiny, tmp_path, monkeypatch
):
    few = dataclasses.replace(tiny, train=tiny.train[:8], train_labels=None, valid=tiny.valid[:2], valid_labels=None)
    monkeypatch.setattr(loop, "progress_bar", lambda *_, **__: began.append(1) or progress_bar(1, "step", shown=False))
    trained, refused = 0, 0
    for number, value in enumerate(ODD):
        if option == "compile" and value is True:
            continue  # takes a compiler
        began, folder = [], tmp_path / str(number)
        keywords = {"epochs": 1, "batch_size": 4, "optimizer": "adam", "lr": 1e-3, "device": "cpu", "precision": "no"}
        keywords |= {"folder": folder, "progress": False, option: value}
        try:
            history = ph.fit(small(), few, **keywords)
        except (ValueError, TypeError) as error:
            words = str(error)
            assert not began and not folder.exists(), (value, words)
            assert option in words and "\n" not in words and len(words) < 300, (value, words)
            refused += 1
        except FloatingPointError:  # a rate of 2**48
            assert option in ("lr", "weight_decay") and value >= 2**48
        else:
            assert history and json.loads(json.dumps(history)) == history, value
            with safe_open(folder / "last.safetensors", framework="pt") as file:
                json.loads(file.metadata()["about"], parse_constant=pytest.fail)  # NaN, Infinity: no JSON
            assert ph.fit(small(), few, **(keywords | {"resume": True})) == history, value
            trained += 1
    assert refused and (trained or option == "optimizer")


@pytest.mark.parametrize("taken", [{"epochs": np.int64(1)}, {"lr": np.float32(0.01)}, {"lr": torch.tensor(0.01)},
    {"seed": 2**60}, {"seed": np.int64(3)}, {"batch_size": np.int64(16)}, {"patience": torch.tensor(2)}])  # fmt: skip
def test_numbers_of_other_libraries_are_numbers(taken, tiny, tmp_path):
    ((name, value),) = taken.items()
    models = small(), small()
    histories = [
        fit(model, tiny, **{"epochs": 1, "folder": tmp_path / str(number), name: given})
        for number, (model, given) in enumerate(
            zip(models, (value, float(value) if name == "lr" else int(value)), strict=True)
        )
    ]
    assert without_time(histories[0]) == without_time(histories[1]) and same_weights(*models)


def test_a_frozen_model_is_refused_and_what_is_switched_off_outside_is_switched_on(tiny, tmp_path):
    model = small()
    for switched_off in (torch.no_grad, torch.inference_mode):
        with switched_off():
            assert len(fit(model, tiny, epochs=1)) == 1 and not torch.is_grad_enabled()
    assert not same_weights(model, small())
    with torch.inference_mode():
        made_inside = small()
    with pytest.raises(ValueError, match="made under torch"):
        fit(made_inside, tiny, folder=tmp_path / "run")
    with pytest.raises(ValueError, match="no parameter of the model can learn: unfreeze"):
        fit(small().requires_grad_(False), tiny, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    half = small()
    half.stem.requires_grad_(False)
    fit(half, tiny, epochs=1)
    assert torch.equal(half.stem.weight, small().stem.weight) and not same_weights(half, small())


def test_a_loss_without_a_gradient_is_named(tiny):
    class Detached(nn.Conv2d):
        def forward(self, x):
            return super().forward(x).detach()

    with pytest.raises(ValueError, match="depends on no parameter that can learn"):
        fit(Detached(1, 4, 1), tiny, epochs=1)


@pytest.mark.parametrize("keywords", [{"seconds": 0.2}, {"patience": 1, "lr": 1e-9}, {}, {"epochs": 1}])
def test_a_good_run_leaves_a_finished_bar(keywords, tiny, monkeypatch):
    from tqdm.notebook import tqdm

    pytest.importorskip("ipywidgets", reason="needs the extra notebooks")
    bars = []
    monkeypatch.setattr(
        loop, "progress_bar", lambda total, unit, **_: bars.append(tqdm(total=total, display=False)) or bars[0]
    )
    model = small()
    interrupted = not keywords
    if interrupted:
        interrupt_at(3, model)
    fit(model, tiny, **{"epochs": 100_000, **keywords})
    _, bar, _ = bars[0].container.children
    assert bar.bar_style == ("danger" if interrupted else "success")
    assert interrupted or 0 < bar.value == bar.max == bars[0].n


def settings_of_a_run(folder) -> dict:
    return files.read_header(folder / "last.safetensors").about["settings"]


@pytest.mark.parametrize(("has_matrix_units", "expected"), [(True, "bf16"), (False, "no"), (None, "no")])
def test_a_cpu_trains_in_bfloat16_only_where_it_has_matrix_units(
    has_matrix_units, expected, tiny, tmp_path, monkeypatch
):
    if has_matrix_units is None:  # an older PyTorch, which cannot tell
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": has_matrix_units}, raising=False)
    fit(small(), tiny, precision=None, folder=tmp_path / "default")
    fit(small(), tiny, precision="no", folder=tmp_path / "told")
    assert settings_of_a_run(tmp_path / "default")["precision"] == expected
    assert settings_of_a_run(tmp_path / "told")["precision"] == "no"
    assert ph.hardware.default_precision("mps") == "no"


@pytest.mark.skipif(torch.accelerator.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_refused(tiny):
    with pytest.raises(ValueError, match="which this machine lacks"):
        ph.fit(small(), tiny, epochs=1, device="cuda")


def test_labels_off_the_classes_are_refused_before_training(tiny):
    with pytest.raises(ValueError, match="label runs from 0 to 1"):
        fit(small(classes=1), tiny)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16", None])
def test_training_on_a_gpu_learns(tiny, precision, optimizer):
    model = small()
    before = ph.evaluate(model, tiny.valid)
    ph.fit(model, tiny, epochs=5, optimizer=optimizer, batch_size=16, lr=0.02, precision=precision, progress=False)
    assert next(model.parameters()).is_cuda and ph.evaluate(model, tiny.valid) < before


# -- stopping and going on ----------------------------------------------------------------------------


def interrupt_at(step, model):
    """Sends Ctrl-C while the forward pass of this step runs."""
    passes = []

    def hook(module, inputs):
        if not module.training:
            return
        passes.append(1)
        if len(passes) == step:
            signal.raise_signal(signal.SIGINT)

    return model.register_forward_pre_hook(hook)


@pytest.mark.parametrize("epoch", [1, 2])
def test_ctrl_c_while_it_scores_is_heard_and_too_late_for_a_run_that_is_done(epoch, tiny, tmp_path, capsys):
    model, scored = small(), []

    def hook(module, inputs):
        if not module.training:
            scored.append(1)
            if len(scored) == epoch:
                signal.raise_signal(signal.SIGINT)

    model.register_forward_pre_hook(hook)
    history = fit(model, tiny, folder=tmp_path, epochs=2)
    assert len(history) == epoch and history.interrupted == (epoch == 1)
    assert ("as asked; resume from" in capsys.readouterr().out) == (epoch == 1)


@pytest.mark.parametrize("step", [1, 5, 6, 9])
@every_optimizer
def test_ctrl_c_saves_and_the_resumed_run_ends_like_an_uninterrupted_one(optimizer, step, tiny, tmp_path, capsys):
    whole, halted, resumed = (small(dropout=0.3) for _ in range(3))
    keywords = {"optimizer": optimizer, "scores_per_epoch": 2 if step == 5 else 1}
    history = fit(whole, tiny, folder=tmp_path / "whole", **keywords)
    hook = interrupt_at(step, halted)
    fit(halted, tiny, folder=tmp_path / "halted", **keywords)
    assert f"Stopped after step {step}, as asked; resume from" in capsys.readouterr().out
    hook.remove()
    again = fit(resumed, tiny, folder=tmp_path / "halted", resume=True, **keywords)
    assert without_time(again) == without_time(history) and again.recipe == history.recipe
    assert same_weights(whole, resumed)
    for name in ("config.json", "model.safetensors"):
        files = [tmp_path / run / "best" / name for run in ("whole", "halted")]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.fixture(scope="module")
def colourful(tiny):
    """The same rows of one level, in colours."""
    parts = {part: getattr(tiny, part).repeat(1, 3, 1, 1) for part in ("train", "valid")}
    for images in parts.values():
        images[:, 1:] = (images[:, 1:] + images[:, :2].roll(1, 0)) % 4
    return ph.Images(**parts, name="coloured rows", levels=4)


def one_of(kind):
    return register.small(kind, levels=4, image_channels=3, image_size=6, dropout=0.3).float()


def muon_with_and_without_a_stop(kind, images, folder):
    """One run by Muon, and the same stopped in its second epoch and resumed: what each leaves in a model."""
    whole, stopped, resumed = (one_of(kind) for _ in range(3))
    by_muon = functools.partial(fit, images=images, optimizer="muon")
    by_muon(whole, folder=folder / "whole")
    history = by_muon(stopped, folder=folder / "halted", on_epoch=lambda *_: signal.raise_signal(signal.SIGINT))
    assert history.interrupted and len(history) == 1
    by_muon(resumed, folder=folder / "halted", resume=True)
    return whole, stopped, resumed


@every_model
def test_every_model_by_muon_is_resumed_to_the_last_bit(kind, colourful, tmp_path):
    whole, _, resumed = muon_with_and_without_a_stop(kind, colourful, tmp_path)
    assert same_weights(whole, resumed) and not same_weights(whole, one_of(kind))
    one, other = (files.read_weights(tmp_path / run / "last.safetensors") for run in ("whole", "halted"))
    assert one.keys() == other.keys() and any(name.endswith("momentum_buffer") for name in one)
    assert all(torch.equal(one[name], other[name]) for name in one)  # what Muon remembers, too


@every_model
def test_muon_leaves_masked_taps_at_zero_in_every_model_and_file(kind, colourful, tmp_path):
    before = one_of(kind)
    apart = set(before.pixel_layers())
    shut = {
        f"{name}.weight": ~layer.mask.expand_as(layer.weight)
        for name, layer in before.named_modules()
        if isinstance(layer, ph.MaskedConv2d) and layer not in apart
    }
    if not shut:
        pytest.skip("it has shifted convolutions, and no masked ones from features to features")
    models = muon_with_and_without_a_stop(kind, colourful, tmp_path)
    left = [model.state_dict() for model in models]
    for run in ("whole", "halted"):
        left.append(type(before).from_pretrained(tmp_path / run / "best").state_dict())
        last = files.read_weights(tmp_path / run / "last.safetensors")
        left += [{name: last[f"{part}.{name}"] for name in shut} for part in ("model", "average.module")]
    for name, mask in shut.items():
        begun = before.state_dict()[name]
        assert begun[mask].all() and mask.any()
        for weights in left:
            assert not weights[name][mask].any(), name
            assert not torch.equal(weights[name][~mask], begun[~mask]), name


def halted(tiny, folder, optimizer, step=5):
    """A run that was interrupted after a few steps."""
    model = small()
    hook = interrupt_at(step, model)
    fit(model, tiny, folder=folder, optimizer=optimizer)
    hook.remove()


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ((torch.optim.SGD, 0.1), (torch.optim.SGD, 5.0), "lr=0.1, now lr=5.0"),
        ((torch.optim.SGD, 0.1), (torch.optim.Adam, 0.1), "optimizer='SGD', now optimizer='Adam'"),
        ((torch.optim.Adam, 0.1), (lambda named, lr: torch.optim.Adam(named[:3], lr=lr), 0.1), "params="),
        ((torch.optim.Adam, 0.1), (lambda named, lr: torch.optim.Adam(named[::-1], lr=lr), 0.1), "params="),
    ],
)
def test_a_run_is_not_resumed_by_another_function_of_the_same_name(before, after, words, tiny, tmp_path):
    halted(tiny, tmp_path, lambda named: before[0](named, lr=before[1]))
    with pytest.raises(ValueError, match=re.escape(words)):
        fit(small(), tiny, folder=tmp_path, resume=True, optimizer=lambda named: after[0](named, lr=after[1]))
    fit(small(), tiny, folder=tmp_path, resume=True, optimizer=lambda named: before[0](named, lr=before[1]))


class Counting(torch.optim.SGD):
    """Remembers in its groups, as optimisers without schedules do."""

    def step(self, closure=None):
        for group in self.param_groups:
            group["k"] += 1
            group["lr"] = group["lr"] / group["k"]
        super().step(closure)


def test_what_an_optimizer_keeps_in_its_groups_is_resumed(tiny, tmp_path):
    def counting(named):
        optimizer = Counting(named, lr=0.5)
        optimizer.param_groups[0]["k"] = 0
        return optimizer

    whole, resumed = small(), small()
    fit(whole, tiny, optimizer=counting)
    halted(tiny, tmp_path, counting)
    fit(resumed, tiny, folder=tmp_path, resume=True, optimizer=counting)
    assert same_weights(whole, resumed)


class Hoarding(torch.optim.SGD):
    """Keeps what no checkpoint can hold."""

    def step(self, closure=None):
        super().step(closure)
        self.state[self.param_groups[0]["params"][0]]["all.losses"] = [1.0, 2.0]


def test_a_memory_that_no_file_can_hold_is_named(tiny, tmp_path):
    with pytest.raises(
        TypeError, match=r"Hoarding keeps a list \(optimizer.0.all.losses\), which a checkpoint cannot hold"
    ):
        fit(small(), tiny, folder=tmp_path, optimizer=functools.partial(Hoarding, lr=0.1))


def test_augmentation_goes_on_in_a_resumed_run(tiny, tmp_path):
    shift = functools.partial(ph.data.random_shift, most=2)
    whole, halted, resumed = (small(dropout=0.3) for _ in range(3))
    history = fit(whole, tiny, augment=shift)
    hook = interrupt_at(5, halted)
    fit(halted, tiny, folder=tmp_path, augment=shift)
    hook.remove()
    with pytest.raises(ValueError, match=r"augment='random_shift\(most=2\)', now augment=None"):
        fit(small(dropout=0.3), tiny, folder=tmp_path, resume=True)
    assert without_time(fit(resumed, tiny, folder=tmp_path, augment=shift, resume=True)) == without_time(history)
    assert same_weights(whole, resumed)


def test_the_second_ctrl_c_acts_at_once(tiny, request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner's worker ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    model = small()
    interrupt_at(2, model)
    interrupt_at(2, model)
    with pytest.raises(KeyboardInterrupt):
        fit(model, tiny)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_killed_run_resumes_and_ends_like_an_uninterrupted_one(optimizer, tiny, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys, torch
            import pixelhelpers as ph
            from pixelhelpers.training import loop

            loop.SAVE_EVERY = 0.0  # after every step
            images = ph.Images(**torch.load("images.pt"))
            torch.manual_seed(0)
            model = ph.PixelCNN(levels=4, hidden=8, blocks=1, image_size=6, dropout=0.3)
            folder, last_pass, optimizer = sys.argv[1], int(sys.argv[2]), sys.argv[3]
            passes = []

            def hook(module, inputs):
                passes.append(module.training)
                if sum(passes) == last_pass:
                    os.kill(os.getpid(), signal.SIGKILL)

            model.register_forward_pre_hook(hook)
            how = {"optimizer": optimizer, "batch_size": 16, "progress": False, "device": "cpu"}
            ph.fit(model, images, epochs=2, folder=folder, resume=True, **how)
            """
        )
    )
    fields = {field.name: getattr(tiny, field.name) for field in dataclasses.fields(tiny)}
    torch.save(fields, tmp_path / "images.pt")

    def run(folder, last_pass):
        command = [sys.executable, str(script), folder, str(last_pass), optimizer]
        return subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})

    if not hasattr(signal, "SIGKILL"):
        pytest.skip("no SIGKILL on this system")
    assert run("whole", 0).returncode == 0
    assert run("killed", 4).returncode == -signal.SIGKILL
    assert run("killed", 5).returncode == -signal.SIGKILL  # again, in the next epoch
    assert run("killed", 0).returncode == 0
    files = [tmp_path / name / "best" / "model.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_checkpoint_of_another_version_is_refused_by_a_clear_line(tiny, tmp_path):
    fit(small(), tiny, folder=tmp_path)
    file = tmp_path / "last.safetensors"
    run = files.read_header(file).about
    del run["format"]  # as before there were formats
    files.write_weights(file, files.read_weights(file), run)
    with pytest.raises(ValueError, match=r"last\.safetensors has format None, this package resumes 4: train anew"):
        fit(small(), tiny, folder=tmp_path, resume=True)


def test_settings_are_frozen_stored_whole_and_compared_but_for_patience(tiny, tmp_path):
    shift = functools.partial(ph.data.random_shift, most=1)
    fit(small(), tiny, folder=tmp_path, epochs=1, augment=shift, seconds=900, patience=4)
    stored = settings_of_a_run(tmp_path)
    settings = ph.training.Settings(**stored)
    assert stored == dataclasses.asdict(settings) and settings.differences(stored) == []
    assert settings.augment == "random_shift(most=1)" and settings.network == {**settings.network, "hidden": 8}
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.lr = 1.0
    for name, value in stored.items():
        if name != "patience":
            assert settings.differences({**stored, name: None if value is not None else 1}) == [name]
    keywords = {"folder": tmp_path, "resume": True, "epochs": 1, "augment": shift, "seconds": 900}
    assert len(fit(small(), tiny, patience=2, **keywords)) == 1


# -- while it trains ----------------------------------------------------------------------------------


def test_on_epoch_sees_the_scored_model_and_the_saved_history_and_changes_nothing(tiny, tmp_path):
    told = []

    def look(model, history):
        assert not model.training and history is not told
        told.append((ph.evaluate(model, tiny.valid), [dict(row) for row in history]))
        ph.sample(model, 2, progress=False)  # takes a seed from the global generator
        torch.rand(7)
        assert files.read_header(tmp_path / "last.safetensors").about["history"] == history

    plain, watched = small(dropout=0.3), small(dropout=0.3)
    history = fit(plain, tiny, epochs=3)
    assert without_time(fit(watched, tiny, epochs=3, folder=tmp_path, on_epoch=look)) == without_time(history)
    assert same_weights(plain, watched)
    assert [len(rows) for _, rows in told] == [1, 2, 3]
    assert [score for score, _ in told] == pytest.approx([row["valid"] for row in history], abs=1e-6)


def test_what_on_epoch_takes_is_no_training_time(tiny, monkeypatch):
    class Clock:
        now = 0.0

        def perf_counter(self):
            self.now += 0.01
            return self.now

    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    history = fit(small(), tiny, epochs=3, on_epoch=lambda model, history: setattr(clock, "now", clock.now + 1000))
    assert len(history) == 3 and clock.now > 3000 and 0 < history[-1]["seconds"] < 10


def test_what_on_epoch_raises_ends_the_run_with_its_files_whole(tiny, tmp_path):
    class Enough(Exception):
        pass

    def end(model, history):
        if len(history) == 2:
            raise Enough

    model = small()
    with pytest.raises(Enough):
        fit(model, tiny, epochs=3, folder=tmp_path, on_epoch=end)
    best = ph.PixelCNN.from_pretrained(tmp_path / "best")
    assert same_weights(model, best)
    whole = small()
    history = fit(whole, tiny, epochs=3)
    assert without_time(fit(model, tiny, epochs=3, folder=tmp_path, resume=True)) == without_time(history)
    assert same_weights(model, whole)


def test_an_existing_checkpoint_is_neither_overwritten_nor_mixed_up(tiny, tmp_path):
    fit(small(), tiny, folder=tmp_path)
    before = (tmp_path / "last.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="resume"):
        fit(small(), tiny, folder=tmp_path)
    with pytest.raises(ValueError, match=r"lr=0\.001, now lr=0\.5"):
        fit(small(), tiny, folder=tmp_path, resume=True, lr=0.5)
    with pytest.raises(ValueError, match="network="):
        fit(small(dropout=0.5), tiny, folder=tmp_path, resume=True)
    assert (tmp_path / "last.safetensors").read_bytes() == before
    assert len(fit(small(), tiny, folder=tmp_path, resume=True)) == 2  # nothing left to do


def test_a_damaged_checkpoint_is_no_dead_end(tiny, tmp_path):
    fit(small(), tiny, folder=tmp_path)
    file = tmp_path / "last.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"last\.safetensors is not a whole .*: move it away to train anew, or begin"):
        fit(small(), tiny, folder=tmp_path, resume=True)
    best = ph.PixelCNN.from_pretrained(tmp_path / "best")
    file.rename(tmp_path / "away")
    again = small()
    fit(again, tiny, folder=tmp_path)
    assert same_weights(again, best)


def damaged(content: bytes, kind: int, chance: random.Random) -> bytes:
    """A safetensors file, changed somewhere: by accident, by somebody who knows the format, or the checksum, too."""
    if kind == 0:
        return content[: chance.randrange(len(content))]
    length = 8 + int.from_bytes(content[:8], "little")
    if kind == 1:
        place = chance.randrange(chance.choice((8, length, len(content))))
        return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]
    tensors, about = load(content), json.loads(json.loads(content[8:length])["__metadata__"]["about"])
    name = chance.choice(sorted(tensors))
    if kind == 3:
        del about["digest"]
        parent, key = chance.choice([(parent, key) for parent, key in places(about) if key != "seconds"])
        parent[key] = chance.choice((None, "x", [], {}, [1], {"x": 1}, -1.5, 10**30, math.nan))
        return files.pack_weights(tensors, about)
    tensors[name] = chance.choice((tensors[name][None], tensors[name].bool(), tensors[name].to(torch.complex64)))
    if chance.random() < 0.5:
        del tensors[name]
    return save(tensors, {"about": json.dumps(about)}) if kind == 2 else files.pack_weights(tensors, about)


def places(value):
    """Every part of a nest of dicts and lists, as what holds it and its key there."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


@pytest.mark.filterwarnings("ignore:Casting complex")
def test_every_damage_of_a_checkpoint_is_one_line_or_does_no_harm(tiny, tmp_path):
    """Who knows the checksum can say anything that fits; even then nobody meets an error of another's."""
    images = dataclasses.replace(tiny, train=tiny.train[:32], train_labels=None, valid_labels=None)
    whole, chance, refused = small(), random.Random(0), 0
    history = fit(whole, images)
    halted(images, tmp_path, "adam", step=3)
    file = tmp_path / "last.safetensors"
    content = file.read_bytes()
    for number in range(150):
        file.write_bytes(damaged(content, number % 5, chance))
        resumed = small()
        try:
            again = fit(resumed, images, folder=tmp_path, resume=True)
        except ValueError as error:
            assert file.name in str(error) and "\n" not in str(error) and len(str(error)) < 2000
            refused += 1
        else:
            same = without_time(again) == without_time(history) and same_weights(whole, resumed)
            assert same or number % 5 > 2
    assert 120 < refused


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_checkpoint_without_the_optimizers_memory_is_refused(optimizer, tiny, tmp_path):
    halted(tiny, tmp_path, optimizer)
    file = tmp_path / "last.safetensors"
    tensors, about = files.read_weights(file), files.read_header(file).about
    kept = {name: value for name, value in tensors.items() if not name.startswith("optimizer.")}
    assert len(kept) < len(tensors)
    files.write_weights(file, kept, about)
    with pytest.raises(ValueError, match="parts are missing"):
        fit(small(), tiny, folder=tmp_path, resume=True, optimizer=optimizer)


def test_a_full_disk_leaves_the_last_checkpoint_whole(tiny, tmp_path, monkeypatch):
    fit(small(), tiny, epochs=1, folder=tmp_path / "a")
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    saves = []

    def full(descriptor):
        saves.append(descriptor)
        if len(saves) > 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fit(small(), tiny, folder=tmp_path / "b")
    monkeypatch.undo()
    assert {path.name for path in (tmp_path / "b").iterdir()} == {".lock", "last.safetensors"}  # no half of another
    whole, resumed = small(), small()
    history = fit(whole, tiny)
    assert without_time(fit(resumed, tiny, folder=tmp_path / "b", resume=True)) == without_time(history)
    assert same_weights(whole, resumed)


def test_a_loss_that_is_not_finite_stops_with_the_step_and_keeps_whole_files(tiny, tmp_path):
    model, passes = small(), []

    def spoil(module, inputs):
        passes.append(module.training)
        if sum(passes) == 9:
            with torch.no_grad():
                module.stem.weight.fill_(math.inf)

    model.register_forward_pre_hook(spoil)
    with pytest.raises(FloatingPointError, match=r"step 9 is nan.*lower learning rate"):
        fit(model, tiny, folder=tmp_path)
    assert all(value.isfinite().all() for value in load_file(tmp_path / "last.safetensors").values())


def test_a_run_leaves_no_pickle_behind(tiny, tmp_path):
    fit(small(), tiny, folder=tmp_path)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {".lock", "best/config.json", "best/model.safetensors", "last.safetensors"}
    assert (tmp_path / ".lock").read_bytes() == b""
    assert ph.PixelCNN.from_pretrained(tmp_path / "best").settings["hidden"] == 8


# -- the command line ---------------------------------------------------------------------------------


def command(*words):
    from pixelhelpers.__main__ import main

    return main([str(word) for word in words])


def test_train_evaluate_and_sample_from_the_command_line(tmp_path, capsys):
    words = ["--data", "digits", "--hidden", 8, "--blocks", 1, "--epochs", 1, "--batch-size", 1000, "--seed", 3]
    words += ["--shift", 1, "--scores-per-epoch", 2]
    assert command("train", *words, "--folder", tmp_path / "run", "--device", "cpu") == 0
    card = json.loads((tmp_path / "run" / "best" / "card.json").read_text())
    assert card["seed"] == 3 and card["data"] == "digits" and card["training_images"] == 4000
    default = ph.PixelCNN.recipes[0]
    assert card["recipe"] == f"{default.optimizer}, 1000 images a step, rate {default.lr:g}"
    assert len(card["epochs"]) == 2
    capsys.readouterr()
    assert command("evaluate", tmp_path / "run" / "best", "--data", "digits", "--split", "test") == 0
    assert f"{card['test_bits_per_dim']:.4f} bits/dim" in capsys.readouterr().out
    picture = tmp_path / "samples.png"
    assert command("sample", tmp_path / "run" / "best", "--out", picture, "--count", 1, "--greedy") == 0
    assert picture.read_bytes()[1:4] == b"PNG"


@pytest.fixture
def shortest(tmp_path):
    """The words of a training that takes no time, and that leave optimiser, batch size and rate to the recipe."""
    np.savez(tmp_path / "set.npz", **{part: np.zeros((4, 8, 8), np.uint8) for part in ("train", "valid")})
    return ["--data", tmp_path / "set.npz", "--hidden", 6, "--blocks", 1, "--epochs", 1, "--device", "cpu"]


@pytest.mark.parametrize("kind", sorted(__main__.MODELS))
def test_the_command_line_trains_by_the_recipe_of_the_family_when_told_nothing_else(
    kind, shortest, tmp_path, monkeypatch
):
    family = __main__.MODELS[kind]
    for recipe in (family.recipes[0], Recipe("adam", 3, 0.007)):  # whatever it is
        monkeypatch.setattr(family, "recipes", (recipe,))
        folder = tmp_path / str(recipe.lr)
        assert command("train", "--model", kind, *shortest, "--folder", folder) == 0
        card = json.loads((folder / "best" / "card.json").read_text())
        assert card["recipe"] == "{}, {} images a step, rate {:g}".format(*recipe)
        stored = settings_of_a_run(folder)
        assert recipe == (stored["optimizer"], stored["batch_size"], stored["lr"])


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A repository with a package that the command line takes for its own."""
    if not shutil.which("git"):
        pytest.skip("no git here")
    package = tmp_path / "series" / "pixelhelpers"
    package.mkdir(parents=True)
    for file in (package / "__main__.py", package.parent / "README.md"):
        file.write_text("first\n")
    git(package.parent, "init")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-m", "first")
    monkeypatch.setattr(__main__, "_PACKAGE", package)
    return package


def test_the_record_names_the_commit_at_which_a_training_began(package, shortest, tmp_path, monkeypatch):
    trained = ph.training.fit

    def edited_meanwhile(*given, **named):
        (package / "__main__.py").write_text("second\n")
        return trained(*given, **named)

    def train(folder):
        assert command("train", *shortest, "--folder", tmp_path / folder) == 0
        return json.loads((tmp_path / folder / "best" / "card.json").read_text())

    monkeypatch.setattr(ph.training, "fit", edited_meanwhile)
    commit = git(package, "rev-parse", "HEAD").strip()
    assert train("one")["commit"] == commit
    assert train("two")["commit"] == f"{commit}+changes"
    monkeypatch.setenv("PATH", "")  # no git
    assert "commit" not in train("three")


def test_a_commit_has_a_mark_when_files_of_the_package_are_others(package):
    commit = git(package, "rev-parse", "HEAD").strip()
    (package.parent / "README.md").write_text("second\n")  # not the package's
    assert __main__._commit() == commit
    new = package / "new.py"
    new.write_text("")
    assert __main__._commit() == f"{commit}+changes"
    git(package, "add", "new.py")
    assert __main__._commit() == f"{commit}+changes"
    git(package, "commit", "-m", "second")
    assert __main__._commit() == git(package, "rev-parse", "HEAD").strip() != commit


@pytest.mark.parametrize("place", ["env/lib/site-packages/pixelhelpers", "env/pixelhelpers"])
def test_a_repository_that_only_contains_the_package_is_not_named(place, package, monkeypatch):
    inside = package.parent / place
    shutil.copytree(package, inside)
    monkeypatch.setattr(__main__, "_PACKAGE", inside)
    assert __main__._commit() is None
    git(package.parent, "add", ".")  # nor where somebody committed the environment
    git(package.parent, "commit", "-m", "environment")
    assert __main__._commit() is None


def test_where_git_knows_no_commit_none_is_named(package):
    git(package, "rm", "--cached", "-r", ".")  # installed beside the files of another repository
    assert __main__._commit() is None
    (package.parent / ".git").rename(package.parent / "away")
    assert __main__._commit() is None
    git(package.parent, "init")
    git(package.parent, "add", ".")
    assert __main__._commit() is None


def test_training_goes_on_from_weights_with_a_new_schedule_and_a_record_of_both(tmp_path, capsys, monkeypatch):
    words = ["--data", "digits", "--epochs", 1, "--batch-size", 1000, "--device", "cpu"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert command("train", "--hidden", 8, "--blocks", 1, *words, "--folder", first) == 0
    still = ["--optimizer", "adam", "--lr", 1e-9, "--dropout", 0.1]
    assert command("train", "--from", first / "best", *still, *words, "--folder", second) == 0
    cards = [json.loads((folder / "best" / "card.json").read_text()) for folder in (first, second)]
    assert cards[1]["begun_with"] == {"weights": str(first / "best"), "card": cards[0]}
    assert math.isclose(cards[1]["epochs"][0]["valid"], cards[0]["epochs"][0]["valid"], abs_tol=1e-4)
    # Resumed, it is still the run that it was.
    resumed = ["train", *still[:-2], *words, "--folder", second, "--resume"]
    assert command(*resumed, "--dropout", 0.1, "--from", second / "best") == 1
    assert "began with" in capsys.readouterr().err
    monkeypatch.setattr(ph.scoring, "evaluate", lambda *_: 1.0)
    for more in (["--from", first / "best"], ["--hidden", 8, "--blocks", 1]):
        (second / "best" / "card.json").unlink()
        assert command(*resumed, "--dropout", 0.1, *more) == 0
        assert json.loads((second / "best" / "card.json").read_text())["begun_with"] == cards[1]["begun_with"]
    settings = ph.PixelCNN.from_pretrained(second / "best").settings
    assert settings["hidden"] == 8 and settings["dropout"] == 0.1


def test_the_command_line_draws_a_row_of_each_class(tmp_path):
    words = ["--data", "digits", "--model", "gated", "--conditional", "--hidden", 4, "--blocks", 1, "--epochs", 1]
    words += ["--batch-size", 1000, "--device", "cpu", "--folder", tmp_path / "run"]
    assert command("train", *words) == 0
    picture = tmp_path / "samples.png"
    assert command("sample", tmp_path / "run" / "best", "--out", picture, "--count", 6, "--label", 4, 9) == 0
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    assert (width, height) == (3 * (3 * 30 + 2), 3 * (2 * 30 + 2))


def test_the_command_line_trains_attention_with_a_softmax(tmp_path):
    words = ["--data", "digits", "--model", "attention", "--softmax", "--hidden", 4, "--blocks", 1, "--epochs", 1]
    words += ["--batch-size", 1000, "--seconds", 0.1, "--device", "cpu", "--folder", tmp_path / "run"]
    assert command("train", *words) == 0
    model = ph.PixelSNAIL.from_pretrained(tmp_path / "run" / "best")
    assert model.settings["components"] is None
    assert model(torch.zeros(1, 1, 4, 4, dtype=torch.uint8)).shape == (1, 256, 4, 4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "nowhere", "--data", "digits"], "holds no config.json"),
        (["sample", "nowhere", "--out", "x.png"], "holds no config.json"),
        (["train", "--folder", "x", "--data", "digit", "--epochs", "1"], "digits"),
        (["train", "--folder", "x", "--data", "digits", "--epochs", "0"], "epochs is 0"),
        (["train", "--folder", "x", "--data", "digits", "--epochs", "1", "--hidden", "3"], "hidden is 3"),
        (["train", "--folder", "x", "--data", "digits", "--epochs", "1", "--blocks", "-3"], "blocks is -3"),
        (["train", "--folder", "x", "--data", "digits", "--epochs", "1", "--seconds", "0"], "seconds is 0"),
        (["train", "--folder", "x", "--data", "digits", "--epochs", "1", "--shift", "28"], "most is 28"),
        (["train", "--folder", "x", "--data", "digits", "--epochs", "1", "--shift", "-1"], "most is -1"),
        (["train", "--folder", "x", "--data", "digits", "--epochs", "1", "--softmax"], "only attention"),
        (
            ["train", "--folder", "x", "--data", "digits", "--epochs", "1", "--lr", "0.1"],
            "a rate belongs to an optimizer",
        ),
        (
            [
                "train",
                "--folder",
                "x",
                "--data",
                "digits",
                "--epochs",
                "1",
                "--from",
                "pixelcnn-digits",
                "--hidden",
                "8",
            ],
            "--hidden was given with --from",
        ),
        (["train", "--folder", "x", "--data", "digits", "--epochs", "1", "--from", "gone"], "holds no config.json"),
        (["sample", "pixelcnn-digits", "--out", "x.png", "--device", "foo"], "device is 'foo'"),
        (["sample", "gated-digits", "--out", "x.png"], "label is missing"),
        (["sample", "gated-digits", "--out", "x.png", "--count", "5", "--label", "0", "1"], "count is 5 for 2 classes"),
        (["sample", "gated-digits", "--out", "x.png", "--count", "1", "--label", "10"], "label runs from 10"),
        (["sample", "pixelcnn-digits", "--out", "x.png", "--label", "1"], "built without classes"),
        (["sample", "pixelcnn-digits", "--out", "x.jpg"], "ends in .png"),
        (["sample", "pixelcnn-digits", "--out", "missing/x.png"], "a folder that exists"),
    ],
)
def test_the_command_line_says_what_is_wrong_without_a_traceback(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(*words) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_loads_nothing_that_only_some_users_need():
    heavy = ["torchvision", "accelerate", "matplotlib", "ipywidgets", "tqdm.auto"]
    code = f"import pixelhelpers, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == "[]", done.stderr


# -- found by trying to break it -----------------------------------------------------------------------


def test_a_validation_score_that_is_no_number_stops_and_keeps_the_best_weights(tiny, tmp_path):
    model = small()
    with pytest.raises(FloatingPointError):
        ph.fit(
            model,
            tiny,
            epochs=3,
            optimizer="adam",
            lr=1e38,
            clip=1e30,
            batch_size=96,
            folder=tmp_path,
            device="cpu",
            progress=False,
        )
    assert all(value.isfinite().all() for value in model.state_dict().values())
    if (tmp_path / "best").exists():
        best = ph.PixelCNN.from_pretrained(tmp_path / "best")
        assert math.isfinite(ph.evaluate(best, tiny.valid))


def test_labels_of_another_length_are_refused_before_training(tiny):
    model = small(classes=2)
    with pytest.raises(ValueError, match="give one per image"):
        ph.evaluate(model, tiny.valid, tiny.valid_labels[:1])
    for name in ("train_labels", "valid_labels"):
        with pytest.raises(ValueError, match=name):
            fit(model, dataclasses.replace(tiny, **{name: torch.zeros(1, dtype=torch.long)}), epochs=1)


def test_without_classes_labels_may_be_missing(tiny):
    images = dataclasses.replace(tiny, train_labels=None, valid_labels=None)
    assert len(fit(small(), images, epochs=1)) == 1


@pytest.mark.parametrize("keywords", [{"seconds": 0}, {"seconds": -1}, {"patience": 0}])
def test_settings_that_end_a_run_before_it_begins_are_refused(tiny, keywords):
    with pytest.raises(ValueError, match=next(iter(keywords))):
        fit(small(), tiny, epochs=1, **keywords)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_evaluate_refuses_an_empty_batch(tiny, batch_size):
    with pytest.raises(ValueError, match="batch_size"):
        ph.evaluate(small(), tiny.valid, batch_size=batch_size)


def test_weights_that_two_layers_share_can_be_saved(tiny, tmp_path):
    layer = ph.MaskedConv2d("B", 8, 8, 1)
    module = nn.Sequential(ph.MaskedConv2d("A", 1, 8, 3), layer, layer, ph.MaskedConv2d("B", 8, 4, 1))
    fit(module, tiny, epochs=1, folder=tmp_path)
    assert (tmp_path / "best" / "model.safetensors").exists()


def test_what_killed_runs_left_is_removed_and_nothing_else(tiny, tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    dead, alive = process.pid, os.getpid()
    left = [f"last.safetensors.{dead}.part", f"best/model.safetensors.{dead}.7.part", f"best/config.json.{dead}.part"]
    others = [
        f"last.safetensors.{alive}.1.part",
        "last.safetensors.part",
        "last.safetensors.old.part",
        f"video.mp4.{dead}.part",
        f"best/notes.{dead}.part",
        f"my last.safetensors.{dead}.part",
    ]
    (tmp_path / "best").mkdir()
    (tmp_path / "unpacked.part").mkdir()
    (tmp_path / f"last.safetensors.{dead}.2.part").mkdir()
    for name in (*left, *others):
        (tmp_path / name).write_bytes(b"half")
    fit(small(), tiny, epochs=1, folder=tmp_path)
    assert not [name for name in left if (tmp_path / name).exists()]
    assert all((tmp_path / name).read_bytes() == b"half" for name in others)
    assert (tmp_path / "unpacked.part").is_dir() and (tmp_path / f"last.safetensors.{dead}.2.part").is_dir()


def test_a_run_folder_belongs_to_one_run(tiny, tmp_path):
    refused = []

    def another(model, history):
        for resume in (False, True):
            before = (tmp_path / "run" / "last.safetensors").read_bytes()
            with pytest.raises(BlockingIOError, match="belongs to a run that is going on"):
                fit(small(), tiny, folder=tmp_path / "run", resume=resume)
            refused.append(before == (tmp_path / "run" / "last.safetensors").read_bytes())
        fit(small(), tiny, epochs=1, folder=tmp_path / f"another {len(history)}")

    history = fit(small(), tiny, folder=tmp_path / "run", on_epoch=another)
    assert refused == [True] * 4
    assert fit(small(), tiny, folder=tmp_path / "run", resume=True) == history  # it is free again


@pytest.mark.parametrize("name", ["", "a file", "a file/run", "full", "taken"])
def test_a_folder_that_cannot_hold_a_run_is_refused_before_training(name, tiny, tmp_path, monkeypatch):
    (tmp_path / "a file").write_bytes(b"")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "best").write_bytes(b"")
    if name == "full":
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    monkeypatch.chdir(tmp_path)
    model = small()
    model.register_forward_pre_hook(lambda module, inputs: pytest.fail("training began"))
    words = {"": "folder is ''", "full": "full has room for 0 MB", "taken": "best is no folder"}
    with pytest.raises((ValueError, OSError), match=words.get(name, f"{name} cannot be written to")) as error:
        fit(model, tiny, folder=name)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "last.safetensors").exists()


def test_the_folder_is_synced_when_a_file_has_its_name(tmp_path, monkeypatch):
    if os.name != "posix":
        pytest.skip("this system cannot")
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append(stat.S_ISDIR(os.fstat(file).st_mode)), fsync(file))[1])
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), replace(*names))[1])
    files.write_together({tmp_path / "one": b"1", tmp_path / "two": b"2"})
    assert calls == [False, False, "replace", "replace", True]


def test_an_interrupted_run_is_not_recorded_as_finished(tmp_path, monkeypatch):
    history = ph.History([{"epoch": 1, "step": 9, "train": 2.0, "valid": 2.0, "lr": 1e-3, "seconds": 1.0}])
    history.interrupted = True
    monkeypatch.setattr(ph.training, "fit", lambda *_, **__: history)
    words = ("train", "--folder", tmp_path / "run", "--data", "digits", "--epochs", 100, "--seconds", 50)
    assert command(*words) == 130
    assert not (tmp_path / "run").exists()


def test_ctrl_c_ends_a_command_without_a_traceback(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(ph.sampling, "sample", interrupted)
    assert command("sample", "pixelcnn-digits", "--out", tmp_path / "x.png") == 130
    assert "Traceback" not in capsys.readouterr().err
