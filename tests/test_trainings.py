"""benchmarks/trainings.py and what uses it: rates are chosen as said, every arm trains, nothing is lost."""

import dataclasses
import importlib
import json
import math
from pathlib import Path

import pytest

import pixelhelpers as ph

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
COMPARISONS = {
    "learning": "family",
    "compare": "model",
    "ablation": "kind",
    "plusplus": "arm",
    "shifted": "kind",
    "overfitting": "case",
}  # and what its arms differ in


@pytest.fixture
def benchmark(monkeypatch):
    """Imports a script of benchmarks/ by name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def best_at(lr, seed, images, arm):
    """A training, as far as a record can tell: the best rate of arm "a" is 0.02, and 0.04 diverges."""
    if lr == 0.04:
        raise FloatingPointError
    return {"valid": abs(lr - {"a": 0.02, "b": 0.01}[arm]) + seed}


def test_each_arm_gets_its_best_rate_and_that_one_every_seed(benchmark, tmp_path, capsys):
    trainings = benchmark("trainings")

    def plans(rows):
        return trainings.rates_then_seeds(rows, [{"arm": "a"}, {"arm": "b"}], images=100)

    study = trainings.Study(tmp_path / "record.json", {"recipe": "this"}, plans, best_at, tmp_path / "runs")
    folders = [study.checkpoints / trainings.name_of(plan) for plan in study.missing()]
    for folder in [*folders, study.checkpoints / "another"]:
        folder.mkdir(parents=True)
    assert {plan["images"] for plan in study.missing()} == {25}  # first the rates, and no more
    trainings.complete(study, jobs=2)
    result = json.loads(study.record.read_text(encoding="utf-8"))
    assert not study.missing() and result["recipe"] == "this"
    long = [(row["arm"], row["lr"], row["seed"]) for row in result["runs"] if row["images"] == 100]
    assert long == [("a", 0.02, 0), ("a", 0.02, 1), ("a", 0.02, 2), ("b", 0.01, 0), ("b", 0.01, 1), ("b", 0.01, 2)]
    diverged = [row["lr"] for row in result["runs"] if row["valid"] is None]
    assert diverged == [0.04, 0.04] and len(result["runs"]) == 12
    assert [path.name for path in study.checkpoints.iterdir()] == ["another"]  # checkpoints go once the row is written

    result["runs"] = result["runs"][:7]  # stopped there
    trainings.write(study.record, result)
    trainings.complete(study)
    again = json.loads(study.record.read_text(encoding="utf-8"))
    assert len(again["runs"]) == 12 and not study.missing()


@pytest.mark.parametrize("name", ["ablation", "plusplus", "shifted"])
def test_the_best_rate_of_every_arm_lies_between_others_that_were_tried(name, benchmark):
    record = benchmark(name).STUDY.read()
    not_the_arm = {"lr", "seed", "images", "valid", "curve", "parameters", "machine"}
    arms = {}
    for row in record["runs"]:
        if row["images"] == record["images"] // 4:
            arm = tuple(value for key, value in row.items() if key not in not_the_arm)
            arms.setdefault(arm, {})[row["lr"]] = row["valid"]
    assert len(arms) > 3
    for arm, tried in arms.items():
        best = min(tried, key=tried.get)
        assert min(tried) < best < max(tried), f"{arm}: {best:g} is the best of {sorted(tried)}; try one beyond it"


@pytest.mark.parametrize("name", COMPARISONS)
def test_the_record_holds_runs_that_the_script_plans_each_once(name, benchmark):
    study = benchmark(name).STUDY
    rows = study.read()["runs"]
    plans = study.plans(rows)
    found = [[place for place, row in enumerate(rows) if benchmark("trainings").is_of(row, plan)] for plan in plans]
    assert all(len(places) < 2 for places in found)
    assert sorted(place for places in found for place in places) == list(range(len(rows)))
    assert all(math.isfinite(row["valid"]) for row in rows)


@pytest.mark.parametrize("name", COMPARISONS)
def test_every_arm_trains(name, benchmark, monkeypatch, tmp_path):
    """Each arm once, on a few digits, by the function that trained what the record holds."""
    module, digits = benchmark(name), ph.load_images("digits")
    few = benchmark("trainings").few(digits, 40, 10)
    monkeypatch.setattr(module.ph, "load_images", lambda *_, **__: few)
    monkeypatch.setattr(module, "FOLDER", tmp_path, raising=False)
    monkeypatch.setattr(module, "SCORES", 1, raising=False)
    monkeypatch.setattr(module, "COUNTS", {"train": 16, "valid": 8, "test": 8}, raising=False)
    monkeypatch.setattr(module, "BUDGET", {"epochs": 1, "lr": 0.02}, raising=False)
    rows = module.STUDY.read()["runs"]
    arms = {plan[COMPARISONS[name]]: plan for plan in module.STUDY.plans(rows)}
    assert len(arms) >= 3
    for plan in arms.values():
        small = plan | {key: value for key, value in {"images": 16, "batch_size": 8}.items() if key in plan}
        assert math.isfinite(module.train(**small)["valid"]), plan
        kept = [path.name for path in tmp_path.iterdir()]  # until the row is written
        assert not kept or benchmark("trainings").name_of(small) in kept


def test_images_are_counted_over_passes(benchmark):
    trainings, digits = benchmark("trainings"), ph.load_images("digits")
    for count in (100, 4_000, 4_001, 10_000):
        seen, epochs = trainings.in_epochs(digits, count)
        assert count - epochs < len(seen.train) * epochs <= count
        assert dataclasses.replace(seen, train=digits.train, train_labels=digits.train_labels).valid is seen.valid
