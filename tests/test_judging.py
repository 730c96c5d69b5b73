"""The judge recognises real images, sees when they are broken, and is small."""

import importlib
from pathlib import Path

import pytest
import torch

import pixelhelpers as ph
from pixelhelpers.models.pretrained import PRETRAINED


@pytest.fixture(scope="module")
def digits() -> ph.Images:
    return ph.load_images("digits")


@pytest.mark.parametrize("data, least", [("digits", 0.97), ("fashion-mnist", 0.9)])
def test_judge_recognises_images_that_it_was_not_trained_on(data, least):
    try:
        images = ph.load_images(data, download=False, fallback=False)
    except ph.DataError as error:
        pytest.skip(f"needs {data} in $PIXELHELPERS_DATA or data/: {error}")
    with torch.inference_mode():
        named = ph.load_judge(data)(images.valid[:500]).argmax(1)
    assert (named == images.valid_labels[:500]).float().mean() > least


def test_judge_is_not_sure_of_broken_images(digits):
    judge = ph.load_judge("digits")
    images = digits.valid[:200]
    rows = torch.randperm(28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        sure = [judge(x).softmax(1).amax(1).mean() for x in (images, images[:, :, rows])]
    assert sure[0] > 0.95 > sure[1] + 0.1


def test_features_are_what_the_name_is_read_from(digits):
    judge, images = ph.load_judge("digits"), digits.valid[:8]
    with torch.inference_mode():
        features = judge.features(images)
        torch.testing.assert_close(judge.name(features), judge(images))
    assert features.shape == (8, 64) and features.std(0).count_nonzero() > 16


def test_another_judge_is_refused_by_name():
    with pytest.raises(ValueError, match="no judge of 'cats'; there are: digits, fashion-mnist"):
        ph.load_judge("cats")


def test_judges_are_small_and_are_no_models():
    files = sorted(Path(PRETRAINED).glob("judge-*.safetensors"))
    assert len(files) == 2 and sum(file.stat().st_size for file in files) < 1_000_000
    assert not any("judge" in name for name in ph.list_pretrained())


def test_measures_of_quality_are_best_for_equal_sets_and_worse_for_others(monkeypatch):
    pytest.importorskip("torchmetrics", reason="needs torchmetrics: pip install -e '.[benchmarks]'")
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    quality = importlib.import_module("quality")
    generator = torch.Generator().manual_seed(0)
    real, same = (torch.randn(400, 64, generator=generator) for _ in range(2))
    moved = same + 0.5
    assert quality.frechet(real, real) < 1e-6 < quality.frechet(real, same) < quality.frechet(real, moved)
    assert abs(quality.kernel(real, same)) < 0.05 < quality.kernel(real, moved)
    assert quality.among(real, real) == 1.0
    few = same[:1].repeat(400, 1) + 0.01 * moved  # one picture again and again: fine, but nearly nothing of the rest
    assert quality.among(real, few) < 0.1
