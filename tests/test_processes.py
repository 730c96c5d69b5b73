"""What must hold of several processes that `torchrun` started, and of several threads: the result is that of one."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

import pixelhelpers as ph
from tests import in_two_processes
from tests.in_two_processes import RUNS, fit, images, outcome, sampled, small, trained

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="torchrun is tested on Linux")


def torchrun(folder, *words):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    path = [str(Path(__file__).parents[1]), *sys.path]
    return subprocess.Popen(
        [*command, in_two_processes.__file__, *map(str, words)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder in which two processes worked, and what each of them found."""
    folder = tmp_path_factory.mktemp("two")
    started = torchrun(folder)
    output, errors = started.communicate(timeout=300)
    assert started.returncode == 0, errors
    assert output.count("Stopped after step 4, as asked") == 3, output  # each said once
    assert "Warning" not in errors, errors
    return folder, [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.fixture(scope="module")
def one():
    """What one process finds."""
    return {name: run(seed=0) for name, run in RUNS.items()}


def difference(found, other):
    names = ("epoch", "step", "train", "valid", "lr")
    histories = [torch.tensor([[row[n] for n in names] for row in of["history"]]).double() for of in (found, other)]
    return max(float((a - b).abs().max()) for a, b in ((found["weights"], other["weights"]), histories))


# -- processes ----------------------------------------------------------------------------------------


@on_linux
@pytest.mark.parametrize(("name", "most"), [("float64", 1e-9), ("classes", 1e-9), ("float32", 1e-4)])
def test_two_processes_take_the_steps_of_one(name, most, two, one):
    model, alone = one[name]
    began = outcome(small(type(model), classes=model.classes), [])
    assert (alone["weights"] - began["weights"]).abs().max() > 0.01
    assert alone["history"][-1]["step"] == 3 * len(alone["history"])
    for found in two[1]:
        assert difference(found[name], alone) < most
        assert torch.equal(found[name]["weights"], two[1][0][name]["weights"])


@on_linux
def test_two_processes_end_near_one_by_muon(two, one):
    alone, moved = one["muon"][1]["weights"], one["muon"][1]["weights"] - outcome(small(), [])["weights"]
    for found in two[1]:
        assert (found["muon"]["weights"] - alone).norm() < 0.1 * moved.norm()  # which computes in bfloat16
        assert torch.equal(found["muon"]["weights"], two[1][0]["muon"]["weights"])


@on_linux
def test_two_processes_draw_and_score_like_one(two, one):
    model, alone = one["float64"][0], {}
    for name in ("eight", "one", "watched", "completed"):
        alone[name] = sampled(name, model)
    alone["labelled"] = sampled("labelled", one["classes"][0])
    assert len(alone["eight"].unique(dim=0)) == 8  # all are different
    for found in two[1]:
        for name, drawn in alone.items():
            assert torch.equal(found[name], drawn), name
        assert torch.equal(found["unseeded"], two[1][0]["unseeded"])
        scores = [ph.evaluate(model, images.valid[:count]) for count in (1, 17)]
        assert found["score"] == pytest.approx(scores, abs=1e-9) and scores[0] != scores[1]
        images_of_wrapped, score_of_wrapped = found["wrapped"]  # in DistributedDataParallel
        assert torch.equal(images_of_wrapped, alone["eight"]) and score_of_wrapped == found["score"][1]


@on_linux
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("batch", "ValueError: batch_size is 1 for 2 processes, which share each batch: give at least 2."),
        ("seed", "ValueError: sample got another seed in one process than in another"),
        ("model", "ValueError: evaluate got another model in one process than in another"),
        ("settings", "ValueError: fit got another settings in one process than in another"),
        ("not finite", "FloatingPointError: the loss of step 9 is nan"),
    ],
)
def test_what_cannot_go_on_ends_both_processes_with_the_same_line(name, words, two):
    folder, ranks = two
    assert ranks[0][name] == ranks[1][name] and ranks[0][name].startswith(words)
    assert not (folder / "refused").exists()


@on_linux
def test_a_folder_that_the_main_process_cannot_have_is_refused_to_all(two):
    one, other = (found["taken"] for found in two[1])
    assert (
        one == "BlockingIOError: taken belongs to a run that is going on: wait for its end, or choose another folder."
    )
    assert other == "BlockingIOError: the main process cannot have taken: it says why."


@on_linux
def test_who_does_not_come_is_missed(two):
    assert two[1][0]["late"].startswith("RuntimeError: evaluate shares its work among 2 processes, and not all came")


@on_linux
def test_what_on_epoch_raises_in_the_main_process_ends_both(two):
    folder, ranks = two
    assert ranks[0]["on_epoch"] == "LookupError: seen enough"
    assert ranks[1]["on_epoch"].startswith("RuntimeError: the main process could not go on")
    assert len(checkpoint(folder / "looked at")["history"]) == 2


@on_linux
def test_ctrl_c_to_one_process_ends_both_and_a_resumed_run_is_like_one_that_was_not(two):
    for found in two[1]:
        assert found["halted 0"] == found["halted 1"] == (True, 1)
        assert difference(found["resumed"], found["whole"]) == 0  # dropout, too


@on_linux
def test_one_process_goes_on_where_two_stopped(two, one):
    model = small().double()
    again = trained(model, folder=two[0] / "for one", resume=True)
    assert difference(again, one["float64"][1]) < 1e-9


@on_linux
def test_time_and_patience_end_both_processes_after_the_same_step(two):
    one, other = two[1]
    for name in ("seconds", "patience"):
        assert one[name]["history"] == other[name]["history"] and len(one[name]["history"]) < 1000
        assert torch.equal(one[name]["weights"], other[name]["weights"])
    assert one["seconds"]["history"][-1]["step"] > 100  # by the clock of the main process, which was slow


def checkpoint(folder):
    with safe_open(folder / "last.safetensors", framework="pt") as file:
        assert all(file.get_tensor(name) is not None for name in file.keys())
        return json.loads(file.metadata()["about"])


@on_linux
def test_ctrl_c_to_torchrun_and_a_killed_process_leave_a_whole_checkpoint(tmp_path):
    started = torchrun(tmp_path, 0)
    deadline = time.monotonic() + 120
    while not (tmp_path / "long" / "last.safetensors").exists():
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    output, errors = started.communicate(timeout=60)
    assert output.count("as asked; resume from long") == 1, errors
    assert all(f"process {rank} was interrupted: True" in output for rank in (0, 1)), errors
    before = checkpoint(tmp_path / "long")["counters"]["step"]

    started = torchrun(tmp_path, 6)  # kills one of them
    output, errors = started.communicate(timeout=120)
    assert started.returncode != 0 and "was interrupted" not in output
    assert checkpoint(tmp_path / "long")["counters"]["step"] == before + 5


# -- threads ------------------------------------------------------------------------------------------


def in_threads(*actions):
    """Does all at once, and gives what each returned or raised."""
    found, barrier = [None] * len(actions), threading.Barrier(len(actions))

    def act(number):
        barrier.wait()
        try:
            found[number] = actions[number]()
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=act, args=(number,)) for number in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


class Slow(nn.Module):
    """Gives other threads their turn in the middle of every pass, and drops out in training."""

    def __init__(self):
        super().__init__()
        self.stem = ph.MaskedConv2d("A", 1, 8, 3)
        self.drop, self.out = nn.Dropout(0.5), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        h = self.stem(x / 3).relu()
        time.sleep(0.001)
        return self.out(self.drop(h))


@pytest.mark.parametrize("number", range(3))
def test_threads_that_draw_from_one_model_or_parts_of_it_get_what_each_gets_alone(number):
    torch.manual_seed(number)
    module = Slow().double().train()
    wrapped = nn.Sequential(module)

    def draw(seed):  # the larger the seed, the longer it takes
        net = wrapped if seed % 2 else module
        return ph.sample(net, 1 + seed, shape=(2 + seed, 3), seed=seed, method="naive", progress=False)

    expected = [draw(seed) for seed in range(6)]
    images = torch.randint(4, (9, 1, 4, 4), dtype=torch.uint8)
    score, matmul = ph.evaluate(module, images), torch.get_float32_matmul_precision()
    assert len(expected[5].unique(dim=0)) == 6
    torch.set_float32_matmul_precision("high")
    try:
        for _ in range(3):
            *drawn, scored = in_threads(
                *(lambda seed=seed: draw(seed) for seed in range(6)), lambda: ph.evaluate(module, images, batch_size=1)
            )
            assert all(map(torch.equal, drawn, expected)) and scored == pytest.approx(score, abs=1e-12)
            assert all(part.training for part in wrapped.modules())
            assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(matmul)


def test_training_in_two_threads_is_refused_and_the_first_goes_on():
    began, ended = threading.Event(), threading.Event()

    def wait(*_):
        began.set()
        assert ended.wait(60)

    def second():
        assert began.wait(60)
        try:
            fit(small(), epochs=1)
        finally:
            ended.set()

    history, error = in_threads(lambda: fit(small(), epochs=1, on_epoch=wait), second)
    assert len(history) == 1
    assert isinstance(error, RuntimeError) and "fit is at work in another thread" in str(error)
    assert len(fit(small(), epochs=1)) == 1  # afterwards
