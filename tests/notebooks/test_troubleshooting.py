"""Every symptom of the page was provoked, and its test tells a sick program from a healthy one."""

import re
from contextlib import nullcontext
from dataclasses import replace
from functools import cache

import pytest
import torch
from sections import NOTEBOOKS
from torch import nn

import pixelhelpers as ph

PAGE = (NOTEBOOKS / "troubleshooting.md").read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"^### (.+?)\n+(.+?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


def block(symptom: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", ENTRIES[symptom], re.DOTALL)
    return code


# Programs, healthy and sick: what stands in a notebook before the test is run


@cache
def digits() -> ph.Images:
    return ph.load_images("digits")


def small(**changes) -> dict:
    """Images of 8 × 8 pixels and an untrained model of them, which is honest; and what else a test asks for."""
    torch.manual_seed(0)
    images = replace(
        digits(),
        train=digits().train[:100, :, 10:18, 10:18],
        train_labels=digits().train_labels[:100],
        valid=digits().valid[:100, :, 10:18, 10:18],
        valid_labels=digits().valid_labels[:100],
        test=None,
        test_labels=None,
    )
    usual = {
        "images": images,
        "x": images.valid[:50],
        "label": images.valid_labels[:50],
        "model": ph.PixelCNN(hidden=8, blocks=1, image_size=8).eval(),
    }
    return usual | changes


def trained(name: str = "pixelcnn-digits", **changes) -> dict:
    usual = {"images": digits(), "x": digits().valid[:20], "label": digits().valid_labels[:20]}
    return usual | {"model": ph.load_pretrained(name).eval()} | changes


def leaking() -> nn.Module:
    """A stem of type B that copies what it sees, as such a network does when it is trained."""
    torch.manual_seed(0)
    model = ph.PixelCNN(hidden=8, blocks=1, image_size=8)
    model.stem = ph.MaskedConv2d("B", 1, 8, 7)
    return model.eval()


def only_background() -> nn.Module:
    model = ph.PixelCNN(hidden=8, blocks=1, image_size=8)
    model.head[-1].bias.data[0] = 50.0
    return model.eval()


class Detached(nn.Module):
    """A network whose weights no gradient reaches."""

    def __init__(self):
        super().__init__()
        self.inner = ph.PixelCNN(hidden=8, blocks=1)
        self.last = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.inner(x).detach() + self.last  # the same for every level: it changes nothing


class Probabilities(nn.Module):
    """A network that ends in a softmax where logits are expected."""

    def __init__(self):
        super().__init__()
        self.inner = ph.PixelCNN(hidden=8, blocks=1)

    def forward(self, x):
        return self.inner(x).softmax(1)


def with_nan() -> nn.Module:
    model = ph.PixelCNN(hidden=8, blocks=1, image_size=8)
    model.stem.bias.data[0] = torch.nan
    return model


class Hasty(ph.PixelCNN):
    """Draws with caches before what it needs is there."""

    lag = 1

    def stepper(self, wave, label=None):
        return super().stepper(wave, label)


class Copies(ph.PixelCNN):
    """Says of every level that is there that it is certain: a leak at its end."""

    def forward(self, x, label=None):
        return 100 * nn.functional.one_hot(x[:, 0].long(), self.levels).movedim(-1, 1).double()


def by_heart() -> dict:
    """A model that has learned ten images only, and those by heart."""
    torch.manual_seed(0)
    few = digits().train[:10, :, 6:22, 6:22]
    model = ph.PixelCNN(hidden=32, blocks=1, image_size=16)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = -model.log_prob(few).mean() / few[0].numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"model": model.eval(), "images": ph.Images(few, digits().valid[:50, :, 6:22, 6:22], few[:0])}


def saved() -> dict:
    ph.PixelCNN(hidden=8, blocks=1).save_pretrained("my/model")
    return small(model=ph.PixelCNN(hidden=16, blocks=1))


def run() -> dict:
    few = small()
    ph.fit(few["model"], few["images"], epochs=1, seconds=0.1, folder="runs/first", progress=False)
    return few


def drawn_by(model: nn.Module, count: int = 8, **options) -> torch.Tensor:
    return ph.sample(model, count, seed=0, progress=False, **options)


# What a test may print


def numbers(printed: str) -> list[float]:
    """The last two numbers."""
    return [float(number) for number in re.findall(r"\d+\.\d+", printed)][-2:]


def clearly_lower(printed: str) -> bool:
    """The first of two numbers is clearly lower than the second."""
    first, second = numbers(printed)
    return first < 0.9 * second


def clearly_higher(printed: str) -> bool:
    first, second = numbers(printed)
    return first > 1.1 * second


def lower_by_hundredths(printed: str) -> bool:
    first, second = numbers(printed)
    return first < second - 0.02


def not_lower(printed: str) -> bool:
    return not lower_by_hundredths(printed)


def alike(printed: str) -> bool:
    return not clearly_lower(printed) and not clearly_higher(printed)


# A symptom; what stands in the notebook; what the test prints then, or raises. The healthy program comes last.
SEEN = {
    "“No module named pixelhelpers”": [(small, "python")],
    "The download fails": [(small, "is missing; download=True fetches it")],
    "CUDA is not found": [(small, "True|False")],
    "“Expected all tensors to be on the same device”": [
        (lambda: small(model=nn.Linear(1, 1, device="meta")), "meta cpu"),
        (small, "cpu cpu"),
    ],
    "The sliders do not appear": [(small, r"\d+\.\d+")],
    "The kernel died": [(small, "GB free")],
    "My numbers are not those of the text": [(small, r"digits on (cpu|cuda|mps)")],
    "“Give [N, 1, height, width]”: a wrong number of channels": [
        (lambda: small(x=small()["x"][:, 0]), r"\(50, 8, 8\) torch.uint8 the model wants channels: 1"),
        (lambda: small(x=small()["x"].movedim(1, -1)), r"\(50, 8, 8, 1\)"),
        (small, r"\(50, 1, 8, 8\)"),
    ],
    "The values were scaled, once or twice": [
        (lambda: small(x=small()["x"] / 255), r"torch.float32 from 0.0 to 1.0"),
        (lambda: small(x=small()["x"] / 255 * 2 - 1), r"torch.float32 from -1.0 to 1.0"),
        (small, r"torch.uint8 from 0 to 25\d"),
    ],
    "The classes are mixed up": [
        (lambda: trained("gated-digits", label=digits().valid_labels[:20].add(3) % 10), not_lower),
        (lambda: trained("gated-digits"), lower_by_hundredths),
    ],
    "“label” is asked for, or refused": [
        (lambda: small(model=ph.GatedPixelCNN(hidden=8, blocks=1, classes=10)), "10"),
        (small, "None"),
    ],
    "The loss does not go down": [
        (lambda: small(model=ph.as_model(Detached(), levels=256, image_size=8)), alike),
        (small, clearly_higher),
    ],
    "The loss stays above 4.55 nats": [
        (lambda: small(model=Probabilities()), "True True"),
        (small, "False False"),
    ],
    "The loss is NaN": [
        (lambda: small(model=with_nan()), r"stem.bias.*False"),
        (small, "the weights are fine True"),
    ],
    "The loss is too good to be true": [(lambda: small(model=leaking()), ph.CausalityError), (small, "^$")],
    "The probabilities of all images may not add up to 1": [
        (lambda: small(model=Copies(levels=3, hidden=8, blocks=1)), r"8[01]\."),
        (lambda: small(model=ph.PixelCNN(levels=3, hidden=8, blocks=1)), r"^(1\.0|0\.99999)"),
    ],
    "Training falls, validation rises": [(by_heart, clearly_lower), (small, alike)],
    "The score is different each time": [
        (lambda: small(model=ph.PixelCNN(hidden=8, blocks=1).train()), "True"),
        (small, "False"),
    ],
    "The samples stay black": [
        (lambda: small(model=Copies(image_size=8)), ph.CausalityError),
        (lambda: small(model=only_background()), "temperature 1: True$"),
        (small, "temperature 1: False$"),
    ],
    "The samples are nothing but noise": [(small, r"^[78]\.\d\d bits"), (trained, r"^1\.\d\d bits")],
    "Good loss, bad pictures": [
        (lambda: trained(drawn=drawn_by(trained()["model"], temperature=0.3)), clearly_lower),
        (lambda: trained(drawn=torch.randint(256, (8, 1, 28, 28))), clearly_higher),
        (
            lambda: trained(drawn=drawn_by(trained()["model"])),
            lambda printed: 0.6 < numbers(printed)[0] / numbers(printed)[1] < 1.6,
        ),
    ],
    "All samples are alike": [
        (lambda: small(drawn=drawn_by(small()["model"], greedy=True)), "^1 different images among 8"),
        (lambda: small(drawn=drawn_by(small()["model"])), "^8 different images among 8"),
    ],
    "The completed part does not fit the known part": [
        (lambda: small(known=torch.arange(8)[:, None].expand(8, 8) > 3), "False"),
        (lambda: small(known=torch.arange(8)[:, None].expand(8, 8) < 4), "True"),
    ],
    "Two samplers draw different images": [
        (lambda: small(model=Hasty(levels=4, hidden=8, blocks=1, image_size=8)), "False"),
        (small, "True"),
    ],
    "The bar stands still": [(small, r"\d seconds for one image")],
    "Out of memory": [(small, "4 MB"), (trained, "51 MB")],
    "Memory grows from step to step": [
        (lambda: small(losses=[small()["model"].log_prob(small()["x"]).mean()]), "Tensor"),
        (lambda: small(losses=[5.5]), "float"),
    ],
    "The weights do not fit": [(saved, r"'hidden': 8.*\n.*PixelCNN.*'hidden': 16")],
    "The folder “already holds a checkpoint”": [(run, "best.*last.safetensors")],
}
CASES = [
    pytest.param(symptom, program, printed, id=f"{symptom} {number}")
    for symptom, programs in SEEN.items()
    for number, (program, printed) in enumerate(programs, start=1)
]


def test_every_symptom_was_tried():
    assert list(SEEN) == list(ENTRIES)


@pytest.mark.parametrize("symptom, program, printed", CASES)
def test_the_test_of_a_symptom_tells_sick_from_healthy(symptom, program, printed, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = {"torch": torch, "ph": ph} | program()
    monkeypatch.setenv("PIXELHELPERS_DATA", str(tmp_path))  # nothing has been downloaded
    capsys.readouterr()
    torch.manual_seed(0)
    raises = isinstance(printed, type)
    with pytest.raises(printed) if raises else nullcontext():
        exec(compile(block(symptom), symptom, "exec"), notebook)
    said = capsys.readouterr().out.strip()
    if not raises:
        assert printed(said) if callable(printed) else re.search(printed, said), said


@pytest.mark.parametrize("symptom", ENTRIES)
def test_a_symptom_says_what_its_test_means_and_where_it_is_explained(symptom):
    meaning, _, more = ENTRIES[symptom].partition("```\n")[2].partition("*More")
    assert len(meaning.split()) > 10
    assert re.search(r"\]\(\w+\.ipynb#\S+\)", more)  # that it arrives is asked with all other links
