"""What must hold of the ways to update weights: which are whose, what Muon does, and that all can be resumed."""

import copy
import functools

import pytest
import torch
from torch import nn

import pixelhelpers as ph
from pixelhelpers.models.own import as_model
from pixelhelpers.training.optimizers import REST, MuonWithAdam, hidden_kernels, make_optimizer
from tests.register import every_case, every_model, images, random_model, small, some_labels

CONVOLUTIONS = nn.modules.conv._ConvNd


def inputs_of_layers(model, x, label):
    """What each convolution is given, call by call."""
    given = {}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: given.setdefault(layer, []).append(inputs[0].clone()))
        for layer in model.modules()
        if isinstance(layer, CONVOLUTIONS)
    ]
    with torch.no_grad():
        model(x, label)
    for hook in hooks:
        hook.remove()
    return given


@every_case
@every_model
def test_layers_that_read_or_write_pixels_are_left_to_adam(kind, case):
    model = small(kind, **case)
    x, label = images(model, 2), some_labels(model, 2)
    before = inputs_of_layers(model, x, label)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    after = inputs_of_layers(model, x, label)
    readers = {layer for layer in before if all(map(torch.equal, before[layer], after[layer]))}  # no feature in it
    apart = set(model.pixel_layers())
    assert readers and readers <= apart
    writers = apart - readers
    assert len({layer.out_channels for layer in writers}) == 1  # as many as say what a pixel is
    assert not {layer.weight for layer in apart} & hidden_kernels(model).keys()
    assert {layer.weight for layer in before if layer not in apart} == hidden_kernels(model).keys()


def with_random_gradients(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    masks = hidden_kernels(model)
    for weight in model.parameters():
        mask = masks.get(weight)
        weight.grad = torch.randn(weight.shape, generator=generator).to(weight) * (1 if mask is None else mask)
    return model


@every_case
@every_model
def test_muon_moves_all_directions_of_a_kernel_alike_and_adam_the_rest(kind, case):
    model = with_random_gradients(small(kind, hidden=24, **case))
    twin = copy.deepcopy(model)
    for weight, same in zip(model.parameters(), twin.parameters(), strict=True):
        same.grad = weight.grad.clone()
    make_optimizer(model, "muon", lr=0.5).step()
    make_optimizer(twin, "adam", lr=0.5 * REST).step()
    masks = hidden_kernels(model)
    for (name, weight), by_adam in zip(model.named_parameters(), twin.parameters(), strict=True):
        if weight not in masks:
            assert torch.equal(weight, by_adam), name
    before = dict(with_random_gradients(small(kind, hidden=24, **case)).named_parameters())
    for name, weight in model.named_parameters():
        if weight in masks:
            mask = torch.ones_like(weight) if masks[weight] is None else masks[weight].expand_as(weight)
            assert not (weight * ~mask.bool()).any(), name
            moved = ((before[name] - weight) * mask).flatten(1) / 0.5
            tall = max(1, moved.shape[0] / moved.shape[1]) ** 0.5
            gained = torch.linalg.svdvals(moved) / tall
            loud = torch.linalg.svdvals(before[name].grad.flatten(1))
            live = loud > 1e-6 * loud[0]
            # A mask of colours takes a part of the update away, so directions are only nearly alike.
            assert gained.max() < 1.4 and gained[live[: len(gained)]].median() > 0.4, (name, gained)


def test_masked_taps_are_out_of_the_norm():
    """A masked kernel moves just as the kernel would that never had the masked columns, whatever their gradient."""
    torch.manual_seed(0)
    layer = ph.MaskedConv2d("B", 6, 4, 3)
    live = layer.mask.flatten()
    whole = nn.Parameter(layer.weight.detach().clone())
    cut = nn.Parameter(whole.detach().flatten(2)[:, :, live].clone())
    whole.grad = torch.randn(whole.shape)
    cut.grad = whole.grad.flatten(2)[:, :, live].clone()
    for kernel, mask in ((whole, layer.mask), (cut, None)):
        MuonWithAdam({kernel: mask}, [], lr=0.1).step()
    moved = whole.detach().flatten(2)[:, :, live]
    assert (moved - layer.weight.detach().flatten(2)[:, :, live]).abs().max() > 1e-3
    assert torch.allclose(moved, cut.detach(), atol=2e-3)  # bfloat16 within
    assert not whole.detach()[:, :, ~layer.mask[0, 0]].any()


LAYOUTS = {
    "dense": lambda kernel: kernel.clone(),
    "channels last": lambda kernel: kernel.clone(memory_format=torch.channels_last),
    "a part of another": lambda kernel: nn.functional.pad(kernel, (1, 2, 0, 1))[..., :-1, 1:-2],
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("layout_of_gradient", LAYOUTS.values(), ids=LAYOUTS)
def test_the_layout_of_a_kernel_in_memory_does_not_matter(layout, layout_of_gradient):
    torch.manual_seed(0)
    kernel, gradient = torch.randn(8, 6, 3, 3), torch.randn(8, 6, 3, 3)
    moved, buffers = [], []
    for of_kernel, of_gradient in ((LAYOUTS["dense"],) * 2, (layout, layout_of_gradient)):
        weight = nn.Parameter(of_kernel(kernel))
        optimizer = MuonWithAdam({weight: None}, [], lr=1.0)
        weight.data = weight.data.clone()  # as layers do that mask by assignment
        weight.grad = of_gradient(gradient)
        optimizer.step()
        moved.append(weight.detach())
        buffers.append(optimizer.state[weight]["momentum_buffer"])
    assert (moved[0] - kernel).abs().max() > 0.1
    assert torch.equal(moved[0], moved[1]) and torch.equal(buffers[0], buffers[1])


@every_model
def test_a_model_whose_kernels_lie_channels_last_takes_the_same_step(kind):
    """A kernel of one tap lies the same in both layouts, only its strides are other numbers."""
    one = with_random_gradients(small(kind))
    two = copy.deepcopy(one).to(memory_format=torch.channels_last)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        b.grad = torch.empty_like(b).copy_(a.grad)  # as autograd lays a gradient out
    for model in (one, two):
        make_optimizer(model, "muon", lr=0.1).step()
    assert all(map(torch.equal, one.parameters(), two.parameters()))


def test_what_is_frozen_or_got_no_gradient_is_left_as_it_is():
    model = ph.PixelCNN(levels=4, hidden=8, blocks=2)
    model.blocks[0].look.weight.requires_grad_(False)
    before = [model.blocks[number].look.weight.detach().clone() for number in (0, 1)]
    optimizer = make_optimizer(model, "muon", lr=0.1)
    with_random_gradients(model)
    model.blocks[0].look.weight.grad = model.blocks[1].look.weight.grad = None
    optimizer.step()
    assert all(torch.equal(model.blocks[number].look.weight, kept) for number, kept in enumerate(before))
    assert model.blocks[1].squeeze.weight.detach().abs().max() > 0


def test_layers_that_share_a_kernel_keep_what_either_needs():
    strict, open_, free = ph.MaskedConv2d("A", 4, 4, 3), ph.MaskedConv2d("B", 4, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
    ends = [nn.Conv2d(1, 4, 1), nn.Conv2d(4, 5, 1)]
    open_.weight = strict.weight
    module = as_model(nn.Sequential(ends[0], strict, open_, ends[1]), levels=5, image_size=6)
    assert torch.equal(hidden_kernels(module)[strict.weight], open_.mask)
    free.weight = strict.weight
    module = as_model(nn.Sequential(ends[0], strict, free, open_, ends[1]), levels=5, image_size=6)
    assert hidden_kernels(module)[strict.weight] is None


@pytest.mark.parametrize("mask", [False, "B", torch.ones(6, 6), torch.full((4, 4, 3, 3), 0.5), torch.zeros(4, 4, 3, 3)])
def test_an_attribute_that_is_no_mask_is_not_taken_for_one(mask):
    layer = nn.Conv2d(4, 4, 3, padding=1)
    layer.mask = mask
    module = as_model(nn.Sequential(nn.Conv2d(1, 4, 1), layer, nn.Conv2d(4, 5, 1)), levels=5, image_size=6)
    assert hidden_kernels(module) == {layer.weight: None}


@every_model
def test_what_muon_remembers_is_in_its_state(kind):
    """A second optimiser with the first one's state makes the first one's next step, to the last bit."""
    one = with_random_gradients(random_model(kind, 3))
    first = make_optimizer(one, "muon", lr=0.1)
    first.step()
    two = copy.deepcopy(one)
    second = make_optimizer(two, "muon", lr=0.1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    amnesiac = copy.deepcopy(one)
    for model, optimizer in ((one, first), (two, second), (amnesiac, make_optimizer(amnesiac, "muon", lr=0.1))):
        with_random_gradients(model, seed=1)
        optimizer.step()
    assert all(map(torch.equal, one.parameters(), two.parameters()))
    assert not all(map(torch.equal, one.parameters(), amnesiac.parameters()))


class Stranger(nn.Module):
    """A network with all that Muon must leave alone: an embedding, positions, a norm, a kernel with one row."""

    def __init__(self):
        super().__init__()
        self.stem, self.look = ph.MaskedConv2d("A", 1, 8, 3), ph.MaskedConv2d("B", 8, 8, 3)
        self.tone, self.where = nn.Embedding(4, 8), nn.Parameter(torch.zeros(1, 8, 6, 6))
        self.norm, self.sum, self.mix = nn.GroupNorm(2, 8), nn.Conv2d(8, 1, 1), nn.Linear(8, 8)
        self.out = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        h = self.look(self.stem(x).relu()) + self.where + self.tone.weight[0][:, None, None]
        h = self.norm(h) + self.sum(h)
        return self.out(self.mix(h.relu().movedim(1, -1)).movedim(-1, 1))


def test_a_strangers_embeddings_positions_stem_and_last_layer_are_left_to_adam():
    module = Stranger()
    assert hidden_kernels(as_model(module, image_size=6)).keys() == {module.look.weight, module.mix.weight}


def test_a_network_without_hidden_kernels_is_told_so():
    module = nn.Sequential(ph.MaskedConv2d("A", 1, 8, 7), nn.ReLU(), nn.Conv2d(8, 4, 1))
    with pytest.raises(ValueError, match="no kernel from features to features that could learn: give 'adam'"):
        make_optimizer(as_model(module), "muon", lr=0.02)


@pytest.mark.parametrize(
    ("optimizer", "words", "error"),
    [
        ("sgd", "optimizer is 'sgd': give one of", ValueError),
        (lambda named: None, "optimizer gave a NoneType: it must give a torch.optim.Optimizer", TypeError),
        (7, "optimizer is an object of int: give one of", TypeError),
        (lambda named: torch.optim.LBFGS([weight for _, weight in named]), "computes losses by itself", ValueError),
        (lambda named: torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1), "not the model's", ValueError),
    ],
)
def test_what_is_no_optimizer_is_refused(optimizer, words, error):
    with pytest.raises(error, match=words):
        make_optimizer(ph.PixelCNN(levels=4, hidden=8, blocks=1), optimizer, lr=0.1)


def test_a_function_gets_a_strangers_own_names():
    module, seen = Stranger(), []
    make_optimizer(
        as_model(module, image_size=6), lambda named: (seen.extend(named), torch.optim.SGD(named, 0.1))[1], None
    )
    assert [name for name, _ in seen] == [name for name, _ in module.named_parameters()]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_muon_is_resumed_on_a_gpu():
    one = with_random_gradients(ph.PixelCNN(levels=4, hidden=8, blocks=1).cuda())
    first = make_optimizer(one, "muon", lr=0.1)
    first.step()
    two = copy.deepcopy(one)
    second = make_optimizer(two, "muon", lr=0.1)
    stored = first.state_dict()
    stored["state"] = {k: {name: value.cpu() for name, value in of.items()} for k, of in stored["state"].items()}
    second.load_state_dict(stored)
    for model, optimizer in ((one, first), (two, second)):
        with_random_gradients(model, seed=1)
        optimizer.step()
    assert all(map(torch.equal, one.parameters(), two.parameters()))


def test_a_function_gets_names_and_its_optimizer_is_taken_as_it_is():
    model = ph.PixelCNN(levels=4, hidden=8, blocks=1)
    made = make_optimizer(model, functools.partial(torch.optim.SGD, lr=0.3, momentum=0.9), lr=None)
    assert isinstance(made, torch.optim.SGD) and made.param_groups[0]["lr"] == 0.3
    assert made.param_groups[0]["param_names"] == [name for name, _ in model.named_parameters()]
