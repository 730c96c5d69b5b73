"""benchmarks/gpu.py, tried on the CPU: it asks what it says, notices what is wrong, and never measures by accident."""

import importlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import pixelhelpers as ph
from pixelhelpers import __main__ as command_line
from pixelhelpers.models.base import Recipe

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("gpu")


@pytest.fixture
def one_family(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "MODELS", {"gated": gpu.MODELS["gated"]})
    return gpu


@pytest.fixture
def optimizers():
    """The kinds of optimisers that step, each with its highest rate."""
    rates = {}

    def note(optimizer, *_):
        kind, rate = type(optimizer).__name__, optimizer.param_groups[0]["lr"]
        rates[kind] = max(rate, rates.get(kind, 0))

    hook = register_optimizer_step_post_hook(note)
    yield rates
    hook.remove()


@pytest.fixture
def asked(gpu, monkeypatch):
    """What is asked when nothing is measured, as (part, family)."""
    found = []

    def ask(part):
        return lambda family, plan: found.append((part, family)) or {"holds": True, "rows": []}

    monkeypatch.setattr(gpu, "PARTS", {part: ask(part) for part in gpu.PARTS})
    return found


def test_a_dry_run_asks_everything_of_every_family_and_goes_on_where_it_stopped(gpu, tmp_path, capsys, monkeypatch):
    out, real = tmp_path / "record.json", gpu.RESULT.exists() and gpu.RESULT.read_bytes()
    assert gpu.main(["--dry-run", "--out", str(out)]) == 0, capsys.readouterr().out
    record = json.loads(out.read_text(encoding="utf-8"))
    assert all(set(record[part]) == set(gpu.MODELS) for part in gpu.PARTS)
    for part in ("images", "waiting", "learning", "muon"):
        assert all(row["holds"] for row in record[part].values())
    assert all(len(row["methods"]) >= 3 for row in record["images"].values())
    assert {"cached, greedy", "naive"} <= set(record["waiting"]["pixelcnn"]["waits"])
    assert "| training, precision no | plusplus | 2 |" in gpu.table(record)
    assert "| sampling, cached | attention | 2 |" in gpu.table(record)
    assert (gpu.RESULT.exists() and gpu.RESULT.read_bytes()) == real

    monkeypatch.setattr(gpu, "PARTS", dict.fromkeys(gpu.PARTS, lambda *_: pytest.fail("measured again")))
    for part in ("training", "sampling"):  # what does not say that it holds was measured
        assert "holds" not in record[part]["gated"]
    assert gpu.main(["--dry-run", "--out", str(out)]) == 0


def test_a_method_that_draws_something_else_is_found(one_family, monkeypatch, capsys):
    draw = one_family.draw

    def wrong(model, count, side, method="cached", device="cpu", **how):
        images = draw(model, count, side, method, device, **how)
        if method == "fixed-point":
            images[-1, 0, -1, -1] = (images[-1, 0, -1, -1] + 1) % model.levels
        return images

    monkeypatch.setattr(one_family, "draw", wrong)
    assert one_family.main(["--dry-run", "--part", "images"]) == 1
    assert "numbers: fixed-point" in capsys.readouterr().out


def test_gradients_that_differ_are_found(one_family, monkeypatch):
    gradients = one_family.gradients
    off = iter((1.0, 1.01, 1.0, 1.01))
    monkeypatch.setattr(one_family, "gradients", lambda *given: gradients(*given) * next(off))
    assert one_family.main(["--dry-run", "--part", "learning"]) == 1


def test_the_short_training_is_compared_by_adam_and_by_muon(one_family, optimizers):
    assert one_family.main(["--dry-run", "--part", "learning"]) == 0
    assert set(optimizers) == {"AdamW"}
    assert one_family.main(["--dry-run", "--part", "muon"]) == 0
    assert "MuonWithAdam" in optimizers


def test_scores_by_muon_that_differ_are_found(one_family, monkeypatch):
    scores = one_family.scores

    def off(family, plan, device, precision, optimizer):
        far = optimizer == "muon" and precision == "bf16"
        return [score + far for score in scores(family, plan, device, precision, optimizer)]

    monkeypatch.setattr(one_family, "scores", off)
    assert one_family.main(["--dry-run", "--part", "learning"]) == 0
    assert one_family.main(["--dry-run", "--part", "muon"]) == 1


def test_steps_are_timed_by_the_recipe_of_the_family(one_family, optimizers, monkeypatch):
    assert one_family.main(["--dry-run", "--part", "training"]) == 0
    assert optimizers["MuonWithAdam"] == ph.GatedPixelCNN.recipes[0].lr
    optimizers.clear()
    monkeypatch.setattr(ph.GatedPixelCNN, "recipes", (Recipe("adam", 8, 0.003),))
    assert one_family.main(["--dry-run", "--part", "training"]) == 0
    assert optimizers == {"AdamW": 0.003}


def test_what_other_machines_said_stays_in_the_record(gpu, asked, tmp_path, monkeypatch):
    out, stored = tmp_path / "record.json", json.loads(gpu.RESULT.read_text(encoding="utf-8"))
    shutil.copy(gpu.RESULT, out)
    stored_others, records = stored.pop("others", []), {}
    for name in ("one card", "another card"):
        monkeypatch.setattr(gpu, "machine", lambda plan, name=name: name)
        assert gpu.main(["--dry-run", "--out", str(out)]) == 0
        records[name] = json.loads(out.read_text(encoding="utf-8"))
        assert records[name]["machine"] == name
        others = records[name].pop("others")
        assert all(other in others for other in (stored, *stored_others))
    assert records["one card"] in others

    asked.clear()
    monkeypatch.setattr(gpu, "machine", lambda plan: "one card")  # which goes on with its own
    assert gpu.main(["--dry-run", "--out", str(out), "--part", "waiting"]) == 0
    assert asked == [("waiting", family) for family in gpu.MODELS]
    record = json.loads(out.read_text(encoding="utf-8"))
    others = record.pop("others")
    assert record == records["one card"] and records["another card"] in others and stored in others
    assert len(others) == 2 + len(stored_others)


def test_the_stored_record_is_gone_on_with(gpu, asked, tmp_path, monkeypatch):
    out, stored = tmp_path / "record.json", json.loads(gpu.RESULT.read_text(encoding="utf-8"))
    shutil.copy(gpu.RESULT, out)
    monkeypatch.setattr(gpu, "machine", lambda plan: stored["machine"])
    assert gpu.main(["--dry-run", "--out", str(out)]) == 0
    kept = {
        (part, family) for part in gpu.PARTS for family, row in stored.get(part, {}).items() if row.get("holds", True)
    }
    assert kept and set(asked) == {(part, family) for part in gpu.PARTS for family in gpu.MODELS} - kept
    record = json.loads(out.read_text(encoding="utf-8"))
    assert all(record[part][family] == stored[part][family] for part, family in kept)


def test_batches_end_where_memory_does(one_family, monkeypatch, capsys):
    def too_much(model, batch, device, *rest):
        if batch > 1:
            raise torch.OutOfMemoryError
        return 0.5

    monkeypatch.setattr(one_family, "step_time", too_much)
    assert one_family.main(["--dry-run", "--part", "training"]) == 0
    printed = capsys.readouterr().out
    assert "batch    2: out of memory" in printed and "| training, precision no | gated | 1 | 2.0 | 1.0× |" in printed


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA GPU")
def test_without_a_gpu_it_says_so_before_any_work(gpu, monkeypatch, capsys):
    monkeypatch.setattr(ph, "load_pretrained", lambda name: pytest.fail("work was done"))
    before = gpu.RESULT.read_bytes()
    assert gpu.main([]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "needs a CUDA GPU" in error and gpu.RESULT.read_bytes() == before


def test_a_dry_run_never_takes_the_place_of_the_record(gpu):
    with pytest.raises(SystemExit):
        gpu.main(["--dry-run", "--out", str(gpu.RESULT)])


def test_the_recipes_that_are_written_down_are_those_that_are_counted(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    recipe, parser = importlib.import_module("recipe"), command_line._parser()
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    commands = [line.split()[3:] for line in text.splitlines() if line.startswith("python -m pixelhelpers train")]
    for words, (family, data, hidden, blocks, dropout, batch, rate, epochs, bits) in zip(
        commands, recipe.RECIPES, strict=True
    ):
        given = parser.parse_args(words)
        assert (given.model, given.data, given.hidden, given.blocks) == (family, data, hidden, blocks)
        assert (given.dropout, given.batch_size, given.lr, given.epochs) == (dropout, batch, rate, epochs)
        assert (
            f"| {family}, hidden {hidden}, {blocks} blocks, dropout {dropout} | {data} | {batch} | {rate:g} |" in text
        )
        assert f"| {bits} |" in text
    for script in (ROOT / "benchmarks").glob("*.py"):
        assert f"python benchmarks/{script.name}" in text
