"""What in PixelCNN++ earns its place: the mixture against a softmax, and how the weights begin.

    python benchmarks/plusplus.py --jobs 2     what plusplus.json beside this file still lacks

The same network learns from the same 6,000 images in the same order. The arms: the mixture of logistics, as shipped; a
softmax over 256 levels in its place; the mixture with all components begun at random around the middle; and the
mixture with weight normalisation and initialisation from data, as in the authors' code. Muon trains all but the last,
Adam the last and the mixture once more. The rate of each is chosen with one seed and a quarter of the images; three
seeds then, scored four times on 1,000 validation images of clothes or 500 of digits.
"""

import torch
import trainings
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

import pixelhelpers as ph
from pixelhelpers.models.heads import SoftmaxHead

DATA = ("fashion-mnist", "digits")
IMAGES, SCORES = 6_000, 4
SIZE = {"hidden": 32, "blocks": 1}


class LinearSoftmax(nn.Conv2d):
    """A head of one layer, as the mixture's, that gives 256 logits in place of a mixture's parameters."""

    conditionals, log_prob = staticmethod(SoftmaxHead.conditionals), staticmethod(SoftmaxHead.log_prob)

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(F.elu(features).to(self.weight.dtype))


class WithSoftmax(ph.PixelCNNPlusPlus):
    """PixelCNN++ with this head."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.head = LinearSoftmax(self.head.in_channels, self.levels, 1)


def shipped(_: Tensor) -> nn.Module:
    return ph.PixelCNNPlusPlus(**SIZE)


def softmax(_: Tensor) -> nn.Module:
    return WithSoftmax(**SIZE)


def together(_: Tensor) -> nn.Module:
    model = ph.PixelCNNPlusPlus(**SIZE)
    model.head.reset_parameters()
    return model


def normalised(images: Tensor) -> nn.Module:
    """Weight normalisation, and a first pass that gives every feature mean 0 and the variance of the authors' code."""
    model = ph.PixelCNNPlusPlus(**SIZE)
    convolutions = {
        name: layer
        for name, layer in model.hourglass.named_modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    } | {name: getattr(model, name) for name in ("above", "beside_above", "beside")}
    for layer in convolutions.values():
        nn.init.normal_(layer.weight, std=0.05)
        weight_norm(layer, dim=1 if isinstance(layer, nn.ConvTranspose2d) else 0)

    def initialise(scale: float):
        @torch.no_grad()
        def hook(layer: nn.Module, _, out: Tensor) -> Tensor:
            factor = scale / (out.std((0, 2, 3)) + 1e-6)
            length = layer.parametrizations.weight.original0
            length.mul_(factor.view_as(length))
            shift = out.mean((0, 2, 3)) if layer.bias is not None else torch.zeros_like(factor)
            if layer.bias is not None:
                layer.bias.sub_(shift).mul_(factor)
            return (out - shift[:, None, None]) * factor[:, None, None]

        return hook

    hooks = [
        layer.register_forward_hook(initialise(0.1 if name.endswith("gates") else 1.0))
        for name, layer in convolutions.items()
    ]
    with torch.no_grad():
        model(images[:64])
    for hook in hooks:
        hook.remove()
    return model


RATES = {
    "muon": (*trainings.RATES["muon"], 0.08),
    "adam": (1e-3, *trainings.RATES["adam"]),
}  # best inside, not at an end
ARMS = {
    "mixture": shipped,
    "softmax": softmax,
    "mixture, means begin together": together,
    "mixture, weight norm and data-dependent start": normalised,
}
COMPARED = [
    *({"data": data, "arm": arm, "optimizer": "muon"} for data in DATA for arm in ("mixture", "softmax")),
    {"data": "fashion-mnist", "arm": "mixture, means begin together", "optimizer": "muon"},
    # Muon takes a kernel's length away, which is what weight normalisation adds: those two are compared by Adam
    {"data": "fashion-mnist", "arm": "mixture", "optimizer": "adam"},
    {"data": "fashion-mnist", "arm": "mixture, weight norm and data-dependent start", "optimizer": "adam"},
]


def train(data: str, arm: str, optimizer: str, lr: float, seed: int, images: int) -> dict:
    every = ph.load_images(data, fallback=False)
    seen, epochs = trainings.in_epochs(trainings.few(every, len(every.train), 1_000), images)
    torch.manual_seed(seed)
    model = ARMS[arm](seen.train)
    how = {"epochs": epochs, "scores_per_epoch": SCORES // epochs, "optimizer": optimizer, "lr": lr, "seed": seed}
    curve = [row["valid"] for row in ph.fit(model, seen, **trainings.RECIPE | how)]
    return {"valid": curve[-1], "curve": curve, "parameters": sum(weight.numel() for weight in model.parameters())}


def plans(rows: list[dict]) -> list[dict]:
    return trainings.rates_then_seeds(rows, COMPARED, IMAGES, RATES)


STUDY = trainings.Study(
    trainings.record(__file__), {"recipe": trainings.RECIPE, "images": IMAGES, "size": SIZE}, plans, train
)

if __name__ == "__main__":
    trainings.complete(STUDY, jobs=trainings.parser(__doc__).parse_args().jobs)
