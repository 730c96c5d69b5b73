"""benchmarks/gpu.py, tried on the CPU: it asks what it says, notices what is wrong, and never measures by accident."""

import importlib
import json
from pathlib import Path

import pytest
import torch

import pixelhelpers as ph
from pixelhelpers import __main__ as command_line

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("gpu")


@pytest.fixture
def one_family(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "MODELS", {"gated": gpu.MODELS["gated"]})
    return gpu


def test_a_dry_run_asks_everything_of_every_family_and_goes_on_where_it_stopped(gpu, tmp_path, capsys, monkeypatch):
    out, real = tmp_path / "record.json", gpu.RESULT.exists() and gpu.RESULT.read_bytes()
    assert gpu.main(["--dry-run", "--out", str(out)]) == 0, capsys.readouterr().out
    record = json.loads(out.read_text(encoding="utf-8"))
    assert all(set(record[part]) == set(gpu.MODELS) for part in gpu.PARTS)
    for part in ("images", "waiting", "learning"):
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
