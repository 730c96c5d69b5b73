"""The checks of notebook 07 name typical wrong answers for what they are."""

import itertools

import pytest
import torch

import pixelhelpers as ph
from pixelhelpers.exercises import check_diagnosis, check_early_stopping, check_shifted_distance
from pixelhelpers.exercises.overfitting import _RIGHT, _WHY, DIAGNOSES, early_stop, shifted_distance


def said_of(check, answer, capsys):
    check(answer)
    return capsys.readouterr().out


# -- early stopping -------------------------------------------------------------------------------


def rises(scores, patience):
    run = best = 0
    for epoch in range(1, len(scores)):
        best = epoch if scores[epoch] < scores[best] else best
        run = run + 1 if scores[epoch] > scores[epoch - 1] else 0
        if run == patience:
            return best + 1, epoch + 1
    return best + 1, len(scores)


def all_failures(scores, patience):
    best = failures = 0
    for epoch in range(1, len(scores)):
        if scores[epoch] < scores[best]:
            best = epoch
        else:
            failures += 1
        if failures == patience:
            return best + 1, epoch + 1
    return best + 1, len(scores)


def ties(scores, patience):
    best = 0
    for epoch, score in enumerate(scores):
        if score <= scores[best]:
            best = epoch
        if epoch - best >= patience:
            return best + 1, epoch + 1
    return best + 1, len(scores)


def at_once(scores, patience):
    best = 0
    for epoch, score in enumerate(scores):
        best = epoch if score < scores[best] else best
        if epoch - best >= patience - 1:
            break
    return best + 1, epoch + 1


def no_better_than_before(scores, patience):
    run = best = 0
    for epoch in range(1, len(scores)):
        best = epoch if scores[epoch] < scores[best] else best
        run = run + 1 if scores[epoch] >= scores[epoch - 1] else 0
        if run == patience:
            return best + 1, epoch + 1
    return best + 1, len(scores)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda s, p: (s.index(min(s)) + 1, len(s)), "Nothing is ever stopped"),
        (lambda s, p: (early_stop(s, p)[1], early_stop(s, p)[1]), "keep the last weights"),
        (lambda s, p: (s.index(min(s)) + 1, early_stop(s, p)[1]), "may lie after the stop"),
        (lambda s, p: (early_stop(s, p)[0], early_stop(s, p)[0]), "stop at the best epoch"),
        (lambda s, p: tuple(k - 1 for k in early_stop(s, p)), "counted from 1"),
        (lambda s, p: early_stop([-x for x in s], p), "look for the highest"),
        (lambda s, p: early_stop(s, p + 1), "one epoch late"),
        (lambda s, p: early_stop(s, max(p - 1, 1)), "one epoch early"),
        (rises, "count rises"),
        (all_failures, "starts the count again"),
        (ties, "equal score is no better"),
        (lambda s, p: early_stop(s, p)[::-1], "wrong order"),
        (lambda s, p: early_stop(s, p)[0], "return two epochs"),
        (lambda s, p: (1, 2, 3), "3 numbers"),
        (lambda s, p: (2, 3), "Go through it by hand"),
        (lambda s, p: (early_stop(s, p)[0], early_stop(s, p)[1] + 1), "it is the last one that *was* trained"),
        (lambda s, p: (early_stop(s, p)[0], early_stop(s, p)[0] + p), "no more epochs"),
        (lambda s, p: (early_stop(s, p)[0], len(s)), "train all of them"),
        (lambda s, p: (early_stop(s, p)[0] - 1, early_stop(s, p)[1]), "counted from 0, the other from 1"),
        (lambda s, p: early_stop(s, 3), "patience to be 3"),
        (lambda s, p: (s[early_stop(s, p)[0] - 1], early_stop(s, p)[1]), "best *score*"),
        (at_once, "With patience 1 you stop at once"),
        (no_better_than_before, "no better than the one before"),
    ],
)
def test_a_wrong_stop_is_named_for_what_it_is(answer, diagnosis, capsys):
    said = said_of(check_early_stopping, answer, capsys)
    assert said.startswith("✗") and diagnosis in said


def test_a_right_stop_is_praised(capsys):
    def answer(scores, patience):
        kept = 1
        for epoch in range(1, len(scores) + 1):
            if scores[epoch - 1] < scores[kept - 1]:
                kept = epoch
            if epoch - kept == patience:
                break
        return torch.tensor([kept, epoch])  # tensors, arrays and lists will do

    assert said_of(check_early_stopping, answer, capsys).startswith("✓")


def test_the_rule_is_the_one_of_fit():
    digits = ph.load_images("digits")
    scores = iter([3.0, 2.0, 2.5, 2.2, 2.1, 1.0, 1.0])

    class Planned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(4))

        def forward(self, x):
            return self.bias.view(1, 4, 1, 1).expand(len(x), 4, *x.shape[2:])

    from pixelhelpers.training.loop import _Trainer

    tiny = ph.Images(
        **{part: digits.train[:8, :, :4, :4] // 64 for part in ("train", "valid", "test")},
        **{f"{part}_labels": digits.train_labels[:8] for part in ("train", "valid", "test")},
        name="planned",
        levels=4,
        classes=digits.classes,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Trainer, "_validate", lambda self: next(scores))
        history = ph.fit(Planned(), tiny, epochs=7, patience=3, device="cpu", progress=False)
    assert early_stop([3.0, 2.0, 2.5, 2.2, 2.1, 1.0, 1.0], 3) == (2, len(history)) == (2, 5)


# -- a distance that forgives small shifts -----------------------------------------------------------


def overlap(a, b, down, right):
    """The parts of two images that lie on top of each other when `a` is moved."""
    height, width = a.shape[-2:]
    rows = [r for r in range(height) if 0 <= r + down < height]
    columns = [c for c in range(width) if 0 <= c + right < width]
    x = a[:, rows][:, :, columns]
    y = b[:, [r + down for r in rows]][:, :, [c + right for c in columns]]
    return x, y


def over(steps, compare):
    return lambda a, b, shift: min(compare(a, b, *step) for step in steps(shift))


def both(shift):
    return itertools.product(range(-shift, shift + 1), repeat=2)


def rms(x, y):
    return (x.float() - y.float()).pow(2).mean().sqrt()


def overlap_rms(a, b, down, right):
    return rms(*overlap(a, b, down, right))


def centre(fixed, moving, shift, down, right):
    height, width = (side - 2 * shift for side in fixed.shape[1:])
    still = fixed[:, shift : shift + height, shift : shift + width]
    top, left = shift + down, shift + right
    return rms(still, moving[:, top : top + height, left : left + width])


def filled(a, b, down, right):
    moved = torch.zeros_like(a)
    for row, column in itertools.product(range(a.shape[1]), range(a.shape[2])):
        if 0 <= row - down < a.shape[1] and 0 <= column - right < a.shape[2]:
            moved[:, row, column] = a[:, row - down, column - right]
    return rms(moved, b)


@pytest.mark.parametrize(
    ("answer", "diagnosis"),
    [
        (lambda a, b, shift: rms(a, b), "plain distance"),
        (over(both, lambda a, b, *by: rms(a.roll(by, (1, 2)), b)), "torch.roll wraps"),
        (over(both, filled), "Zeros at the border"),
        (
            over(both, lambda a, b, *by: overlap_rms(a, b, *by) * (overlap(a, b, *by)[0].numel() / a.numel()) ** 0.5),
            "number of values of the whole image",
        ),
        (
            over(both, lambda a, b, *by: overlap_rms(a, b, *by) * overlap(a, b, *by)[0].numel() ** 0.5),
            "That is a sum",
        ),
        (lambda a, b, shift: min(centre(a, b, shift, *by) for by in both(shift)), "same centre of the first"),
        (lambda a, b, shift: min(centre(b, a, shift, *by) for by in both(shift)), "same centre of the second"),
        (over(both, lambda a, b, *by: overlap_rms(a, b, *by) ** 2), "The root is missing"),
        (over(both, lambda a, b, *by: (lambda x, y: (x.float() - y.float()).abs().mean())(*overlap(a, b, *by))), "abs"),
        (
            over(both, lambda a, b, *by: (lambda x, y: (x - y).float().pow(2).mean().sqrt())(*overlap(a, b, *by))),
            "uint8 has no negative numbers",
        ),
        (
            over(both, lambda a, b, *by: (lambda x, y: ((x - y) ** 2).float().mean().sqrt())(*overlap(a, b, *by))),
            "Squares overflow",
        ),
        (over(lambda s: itertools.product(range(s + 1), repeat=2), overlap_rms), "down and to the right"),
        (over(lambda s: itertools.product(range(-s, 1), repeat=2), overlap_rms), "up and to the left"),
        (over(lambda s: itertools.product(range(-s, max(s, 1)), repeat=2), overlap_rms), "left out"),
        (
            over(lambda s: [(k, 0) for k in range(-s, s + 1)] + [(0, k) for k in range(-s, s + 1)], overlap_rms),
            "straight shifts",
        ),
        (over(lambda s: [(k, 0) for k in range(-s, s + 1)], overlap_rms), "shifts of rows"),
        (over(lambda s: [(0, k) for k in range(-s, s + 1)], overlap_rms), "shifts of columns"),
        (lambda a, b, shift: max(overlap_rms(a, b, *by) for by in both(shift)), "largest"),
        (lambda a, b, shift: sum(overlap_rms(a, b, *by) for by in both(shift)) / (2 * shift + 1) ** 2, "average"),
        (over(lambda s: [(k, k) for k in range(-s, s + 1)], overlap_rms), "on a diagonal"),
        (over(lambda s: [by for by in both(s) if sum(map(abs, by)) <= s], overlap_rms), "each of them may be as large"),
        (over(lambda s: [by for by in both(s) if max(map(abs, by)) == s], overlap_rms), "Only the largest shift"),
        (over(lambda s: both(s + 1), overlap_rms), "One shift too many"),
        (over(lambda s: both(1), overlap_rms), "shifts by 1, whatever"),
        (over(lambda s: both(2), overlap_rms), "shifts by 2, whatever"),
        (over(both, lambda a, b, *by: overlap_rms(a, b, *by) / 255), "share of 255"),
        (over(both, lambda a, b, *by: (lambda x, y: (x.float() - y.float()).std())(*overlap(a, b, *by))), "deviation"),
        (
            over(both, lambda a, b, *by: (lambda x, y: (x.float() - y.float()).mean().abs())(*overlap(a, b, *by))),
            "opposite sign cancel",
        ),
        (over(lambda s: itertools.product(range(-s, s), repeat=2), overlap_rms), "are both ends included"),
        (over(lambda s: [by for by in both(s) if any(by)], overlap_rms), "are both ends included"),
        (lambda a, b, shift: 1.0, "instead of"),
        (lambda a, b, shift: 0.0, "instead of"),
        (lambda a, b, shift: float("nan"), "NaN or infinite"),
        (lambda a, b, shift: a, "return one number"),
    ],
)
def test_a_wrong_distance_is_named_for_what_it_is(answer, diagnosis, capsys):
    said = said_of(check_shifted_distance, answer, capsys)
    assert said.startswith("✗") and diagnosis in said


def test_a_right_distance_is_praised_and_is_the_one_of_the_package(capsys):
    assert said_of(check_shifted_distance, over(both, overlap_rms), capsys).startswith("✓")
    images = ph.load_images("digits").train[:30]
    found = ph.nearest_neighbours(images[:2], images[2:], count=28, shift=2)
    for k in range(2):
        expected = [shifted_distance(images[k], image, 2) for image in images[2:][found.indices[k]]]
        torch.testing.assert_close(found.distances[k], torch.tensor(expected, dtype=torch.double))


# -- a diagnosis ----------------------------------------------------------------------------------


def test_there_is_a_reason_for_every_wrong_word():
    assert set(_WHY) == {(run, word) for run in _RIGHT for word in DIAGNOSES if word != _RIGHT[run]}


@pytest.mark.parametrize("written", [str, str.upper, str.title, " {} ".format])
def test_the_right_diagnosis_is_praised_in_any_order_and_spelling(written, capsys):
    answer = {run: written(word) for run, word in reversed(_RIGHT.items())}
    assert said_of(check_diagnosis, answer, capsys).startswith("✓")


@pytest.mark.parametrize(("run", "word"), _WHY)
def test_every_wrong_diagnosis_gets_its_reason(run, word, capsys):
    said = said_of(check_diagnosis, _RIGHT | {run: word}, capsys)
    assert said.startswith(f"✗ Not yet. {run}:") and _WHY[run, word] in said


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"A": "leak"}, "one word for each of the runs"),
        (["leak"] * 4, "Give a dictionary"),
        (dict.fromkeys("ABCD", "fine"), "A: 'fine' is none of healthy"),
        ({run: ["leak"] for run in "ABCD"}, "is none of"),
    ],
)
def test_a_diagnosis_that_is_none_is_refused(answer, words, capsys):
    said = said_of(check_diagnosis, answer, capsys)
    assert said.startswith("✗") and words in said


@pytest.mark.parametrize("check", [check_early_stopping, check_shifted_distance])
def test_an_empty_answer_is_not_solved_yet(check, capsys):
    for empty in (lambda *arguments: ..., None):
        assert said_of(check, empty, capsys).startswith("✎ Not solved yet")


def test_an_unfinished_diagnosis_is_not_solved_yet(capsys):
    for empty in (dict.fromkeys("ABCD", ...), _RIGHT | {"B": None}, None):
        assert said_of(check_diagnosis, empty, capsys).startswith("✎ Not solved yet")
