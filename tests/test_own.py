"""Tests of modules of one's own: what they say, are told or are asked is one truth for fit, score, draw and probes."""

import itertools
import warnings

import numpy
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import pixelhelpers as ph
from pixelhelpers.__main__ import main
from pixelhelpers.models.own import OwnModule, unwrapped

KNOWN = torch.zeros(4, 4, dtype=torch.bool)
KNOWN[:2] = True  # a prefix of raster order; KNOWN.T of column order


def data(levels, channels=1, size=(4, 4), classes=(), count=24):
    """Images that repeat each value to its right: there is something to learn."""
    kind = torch.uint8 if levels <= 256 else torch.int64
    x = torch.randint(levels, (count, channels, size[0], 1)).expand(count, channels, *size).to(kind).contiguous()
    labels = torch.arange(count) % max(1, len(classes))
    labels = (labels, labels[:8], labels[:8]) if classes else (None, None, None)
    return ph.Images(x, x[:8], x[:8], *labels, "stripes", levels, classes)


def fit(module, images, **keywords):
    keywords = {"epochs": 2, "batch_size": 8, "optimizer": "adam", "lr": 0.01, "precision": "no"} | keywords
    return ph.fit(module, images, progress=False, **keywords)


class Net(nn.Module):
    """A learner's network: masked, grey or colour, with labels where there are classes."""

    def __init__(self, levels=5, channels=1, classes=None):
        super().__init__()
        self.look = ph.MaskedConv2d("A", channels, 6 * channels, 3, channels)
        self.say = ph.MaskedConv2d("B", 6 * channels, levels * channels, 1, channels)
        self.split = (channels, levels)
        self.of_class = None if classes is None else nn.Embedding(classes, levels * channels)

    def forward(self, x):
        return self.logits(self.say(self.look(x).tanh()))

    def logits(self, features):
        return features if self.split[0] == 1 else features.unflatten(1, self.split).transpose(1, 2)


class Labelled(Net):
    def forward(self, x, label):
        return self.logits(self.say(self.look(x).tanh()) + self.of_class(label)[:, :, None, None])


class Codes(Net):
    """Takes integers alone, as a prior over codes does."""

    def __init__(self, levels=512):
        super().__init__(levels)
        self.code = nn.Embedding(levels, 6)
        self.look = ph.MaskedConv2d("A", 6, 6, 3)

    def forward(self, x):
        return super().forward(self.code(x[:, 0]).movedim(-1, 1))


class Columns(Net):
    """Draws column after column."""

    def forward(self, x):
        return super().forward(x.mT).mT

    def order(self, shape):
        return torch.arange(shape[1] * shape[2]).view(shape[2], shape[1]).T


def small(kind, *args, seed=0, **settings):
    torch.manual_seed(seed)
    model = kind(*args, **settings).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    return model


def draw(module, count=3, **keywords):
    return ph.sample(module, count, seed=1, progress=False, **keywords)


# The four that the issue names, with data, and how each is completed.
WHOLE = {
    "512 codes": (lambda: small(ph.PixelCNN, levels=512, image_size=4, hidden=8, blocks=1), {"levels": 512}, KNOWN),
    "512 codes, integers": (lambda: small(Codes), {"levels": 512}, KNOWN),
    "colour": (lambda: small(Net, 5, 3), {"levels": 5, "channels": 3}, KNOWN),
    "columns": (lambda: small(Columns), {"levels": 5}, KNOWN.T),
    "labels": (lambda: small(Labelled, 5, 1, 3), {"levels": 5, "classes": ("a", "b", "c")}, KNOWN),
}


@pytest.mark.parametrize("case", WHOLE)
def test_what_was_trained_is_scored_drawn_completed_and_asked_without_being_told(case, recwarn):
    make, of_data, known = WHOLE[case]
    module, images = make(), data(**of_data)
    labels = images.valid_labels if images.classes else None
    history = fit(module, images, epochs=3)
    assert history[-1]["valid"] < history[0]["valid"]
    assert numpy.isclose(ph.evaluate(module, images.valid, labels), min(row["valid"] for row in history))

    label = {"label": numpy.array([0, 2, 1])} if images.classes else {}
    drawn = draw(module, method="naive", **label)
    assert drawn.shape == (3, *images.train.shape[1:]) and drawn.dtype == images.train.dtype
    assert len(drawn.unique(dim=0)) == 3 and len(drawn.unique()) > 3  # equal ones mean something
    for method in ("auto", "fixed-point", *(["cached"] if "stepper" in vars(type(module)) else [])):
        assert torch.equal(drawn, draw(module, method=method, **label)), method
    if isinstance(module, Columns):
        with pytest.raises(ValueError, match="Columns draws pixels below"):
            draw(module, method="cropped")
    else:
        assert torch.equal(drawn, draw(module, method="cropped", **label))

    some = {"given": images.valid[:3].numpy(), "known": known, **label}
    completed = draw(module, method="naive", **some)
    assert torch.equal(completed[..., known], images.valid[:3][..., known])
    assert torch.equal(completed, draw(module, **some))
    assert not [str(w.message) for w in recwarn if "later in the drawing order" in str(w.message)]  # it is a prefix

    ph.check_causal(module, (images.train.shape[1], 4, 4))
    for probe in (ph.check_causal, lambda net, shape: ph.receptive_field(net, (1, 1), shape)):
        with pytest.raises(ValueError, match=r"shape is \(2, 4, 4\), but the model has [13] channels: give shape=\("):
            probe(module, (2, 4, 4))
    seen = ph.receptive_field(module, at=(1, 1), shape=images.train.shape[1:])
    assert bool(seen[1, 0]) and bool(seen[0, 1])
    assert seen[2, 0] == isinstance(module, Columns)
    few = small(type(module), 2, 1, 3) if labels is not None else module
    if images.levels == 5 and images.train.shape[1] == 1 and labels is None:
        assert abs(ph.total_probability(few, (2, 2), 5) - 1) < 1e-9


def test_an_order_counts_wherever_it_is_said():
    """As a method, an attribute, told: the same images, and the same answer of the probe."""

    class Bare(Columns):
        order = None

    def ranks(shape):
        return Columns.order(None, shape)

    expected = draw(small(Columns), shape=(4, 4), method="naive")
    said, told, noted = small(Bare), small(Bare), small(Bare)
    said.order = ranks((1, 4, 4))
    wrapped = ph.as_model(told, order=ranks, image_size=4)
    ph.as_model(noted, order=ranks((1, 4, 4)).numpy())
    for module in (said, told, wrapped, noted, nn.DataParallel(told)):
        assert torch.equal(expected, draw(module, shape=(4, 4)))
        ph.check_causal(module, (1, 4, 4))
        assert ph.check_model(module, (4, 4))[0]["answer"] == "holds"
    with pytest.raises(ph.CausalityError):
        ph.check_causal(small(Bare), (1, 4, 4))
    assert not torch.equal(expected, draw(small(Bare), shape=(4, 4), method="naive"))  # nobody said
    with pytest.raises(ValueError, match=r"order has shape \(4, 4\): give one rank per value, \(1, 5, 5\)"):
        draw(said, shape=(5, 5))
    with pytest.raises(ValueError, match=r"order has type torch\.float32"):
        ph.as_model(told, order=torch.rand(4, 4)).order((4, 4))


def test_the_order_of_pixels_is_that_of_their_channels():
    model = ph.as_model(small(Net, 5, 3), order=torch.tensor([[1, 0]]), image_size=(1, 2))
    assert model.order((1, 2)).flatten(1).T.tolist() == [[3, 4, 5], [0, 1, 2]]


def test_what_was_noted_outlives_copies_and_new_weights_and_a_new_fit(tmp_path):
    module = small(Net, 5, 3)
    fit(module, data(5, 3, (4, 6)), folder=tmp_path)
    assert draw(module).shape == (3, 3, 4, 6)
    twin = small(Net, 5, 3, seed=1)
    twin.load_state_dict(load_file(tmp_path / "best" / "model.safetensors"))
    for shape in ((4, 6), (3, 4, 6)):  # a grey image it does not take: it is one of colours
        assert torch.equal(draw(twin.double(), shape=shape), draw(module))
    assert draw(ph.as_model(twin, image_size=(4, 6))).shape == (3, 3, 4, 6)
    assert draw(twin).shape == (3, 3, 4, 6)  # it was told, too
    fit(module, data(5, 3, (2, 2)))
    assert draw(module).shape == (3, 3, 2, 2)


def test_told_counts_more_than_said_and_both_more_than_guessed():
    module = small(Net, 5)
    module.image_size, module.classes, module.order = 6, ["cat", "dog"], nn.Identity()  # the last two say other things
    model = ph.as_model(module)
    assert isinstance(model, OwnModule)
    assert (model.levels, model.image_channels, model.image_size, model.classes) == (5, 1, 6, None)
    assert ph.as_model(module, image_size=numpy.int64(3)).image_size == 3
    assert ph.as_model(model) is model
    for told, words in (
        ({"levels": 6}, r"to \(1, 5, 3, 3\): logits must have shape \(1, 6, 3, 3\)"),
        ({"image_channels": 3}, "does not take images"),
        ({"levels": 2.5}, "levels is 2.5: give a whole number"),
        ({"classes": ["a", "b"]}, "classes is"),
        ({"image_size": "big"}, r"image_size is 'big': give a side in pixels, or \(height, width\)"),
        ({"order": 3}, "order is 3: give a tensor of ranks"),
    ):
        with pytest.raises(ValueError, match=words):
            ph.as_model(module, **told)
    with pytest.raises(ValueError, match="levels is 6, but the model was built with levels=5"):
        ph.as_model(model, levels=6)


def test_labels_are_asked_for_by_name():
    module, images = small(Labelled, 5, 1, 3), data(5, classes=("a", "b", "c"))
    for ask in (
        lambda: ph.evaluate(module, images.valid, images.valid_labels),
        lambda: draw(module),
        lambda: ph.check_causal(module, (1, 4, 4)),
        lambda: fit(module, data(5)),
    ):
        with pytest.raises(ValueError, match=r"Labelled\.forward takes a label, too, and nobody says how many classes"):
            ask()
    with pytest.raises(ValueError, match="nobody said how many classes Net knows"):
        draw(small(Net), label=1)
    module.classes = 3
    with pytest.raises(ValueError, match="label is missing: the model knows 3 classes"):
        draw(module)
    right = ph.evaluate(module, images.valid, images.valid_labels)
    assert right != ph.evaluate(module, images.valid, (images.valid_labels + 1) % 3)


def test_labels_reach_their_images():
    module = small(Labelled, 5, 1, 3)
    module.classes = 3
    each = torch.cat([draw(module, 3, label=k, shape=(4, 4))[k : k + 1] for k in range(3)])
    assert len(each.unique(dim=0)) == 3
    assert torch.equal(each, draw(module, label=torch.arange(3).to(torch.uint16), shape=(4, 4)))


# -- what a module may return ----------------------------------------------------------------------------


class Changed(nn.Module):
    def __init__(self, change, channels=1, levels=5):
        super().__init__()
        self.net, self.change = small(Net, levels, channels), change

    def forward(self, x):
        return self.change(self.net(x))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y: (y, None), "returns a tuple: give the logits alone"),
        (lambda y: {"logits": y}, "returns a dict"),
        (lambda y: y.long(), "returns torch.int64: give logits, real numbers"),
        (lambda y: y.mean(1, keepdim=True), "gives one number per value"),
        (lambda y: y.permute(0, 2, 3, 1), r"\(1, 5, 6, 7\).*axis\? logits.permute\(0, 3, 1, 2\)"),
        (lambda y: y[:, :, 1:], r"to \(1, 7, 4, 6\): logits must have shape \(1, levels, 5, 6\)\.$"),
        (lambda y: y.sum((0, 1, 2, 3)), r"to \(\)"),
    ],
)
def test_other_answers_than_logits_are_named_before_any_work(change, words):
    x = torch.randint(5, (4, 1, 5, 6), dtype=torch.uint8)
    images = ph.Images(x, x, name="noise", levels=5)
    for ask in (
        lambda: ph.evaluate(Changed(change, levels=7), x),
        lambda: fit(Changed(change, levels=7), images),
        lambda: draw(Changed(change, levels=7), shape=(5, 6)),
    ):
        with pytest.raises(ValueError, match=words) as error:
            ask()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("axes", list(itertools.permutations((1, 2, 3, 4))))
def test_the_axes_of_colour_logits_are_put_right_by_the_hint(axes):
    def change(logits):
        return logits.permute(0, *axes)

    module = Changed(change, channels=3, levels=7)
    if axes == (1, 2, 3, 4):
        assert draw(module, shape=(5, 6)).shape == (3, 3, 5, 6)
        return
    with pytest.raises(ValueError, match=r"logits\.permute") as error:
        draw(module, shape=(3, 5, 6))
    back = eval(str(error.value).rpartition("permute")[2])
    logits = torch.rand(1, 7, 3, 5, 6)
    assert torch.equal(change(logits).permute(back), logits)


def test_colours_and_levels_in_one_axis_are_told_apart():
    module = Changed(lambda y: y.transpose(1, 2).flatten(1, 2), channels=3)
    with pytest.raises(ValueError, match=r"logits\.unflatten\(1, \(3, 5\)\)\.transpose\(1, 2\)"):
        draw(module, shape=(3, 4, 4))


def test_grey_logits_with_an_axis_for_the_channel_are_taken_as_they_are():
    plain, five = small(Net), Changed(lambda y: y.unsqueeze(2))
    five.net = plain
    x = torch.randint(5, (4, 1, 4, 4))
    assert ph.evaluate(five, x) == ph.evaluate(plain, x)
    assert torch.equal(draw(five, shape=(4, 4)), draw(plain, shape=(4, 4)))
    assert ph.total_probability(five, (1, 2), 5) == ph.total_probability(plain, (1, 2), 5)
    ph.check_model(five, (4, 4))
    fit(five, data(5))


@pytest.mark.parametrize("method", ["naive", "cropped", "fixed-point"])
def test_a_forbidden_level_has_probability_0_everywhere(method):
    def forbid(logits):
        return torch.cat((logits[:, :3], torch.full_like(logits[:, 3:], -torch.inf)), 1)

    module, x = Changed(forbid), torch.randint(3, (4, 1, 4, 4))
    assert ph.evaluate(module, x) < ph.evaluate(module.net, x) < torch.inf == ph.evaluate(module, x + 2)
    for how in ({}, {"temperature": 3.0}, {"top_p": 0.9}, {"greedy": True}):
        assert draw(module, 8, shape=(4, 4), method=method, **how).max() == 2
    ph.check_causal(module)
    assert torch.equal(*(ph.receptive_field(net, (2, 2), (1, 4, 4)) for net in (module, module.net)))
    assert abs(ph.total_probability(module, (1, 2), 5) - 1) < 1e-9
    fit(module, data(3))


def test_probabilities_in_place_of_logits_get_a_word():
    x = data(5).valid
    with pytest.warns(UserWarning, match="Changed returns probabilities"):
        ph.evaluate(Changed(lambda y: y.softmax(1)), x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for change in (lambda y: y, lambda y: y.log_softmax(1), torch.sigmoid, torch.zeros_like):
            ph.evaluate(Changed(change), x)


def test_what_holds_something_for_each_image_is_scored_and_drawn_whole():
    module = Changed(lambda y: y + torch.arange(25.0).view(5, 5, 1, 1).cos())
    assert ph.evaluate(module, data(5).train[:5]) > 0
    assert draw(module, 5, method="naive", shape=(4, 4)).shape == (5, 1, 4, 4)
    with pytest.raises(ValueError, match=r"Changed took 5 images and fails on .* is drawn by method='naive'"):
        draw(module, 5, shape=(4, 4))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(4, 6, 6, 1, dtype=torch.uint8), r"channels last\? give images\.permute\(0, 3, 1, 2\)"),
        (torch.zeros(4, 6, 6, dtype=torch.uint8), r"Grey\? images\[:, None\]"),
        (torch.rand(4, 1, 6, 6), "images has type torch.float32"),
        (numpy.zeros((4, 6, 6, 1), numpy.uint16), "channels last"),
        ("pictures", "images is 'pictures': give integers"),
        (torch.full((4, 1, 6, 6), 5), "from 5 to 5, but the model knows 5 levels"),
    ],
)
def test_images_that_do_not_fit_are_refused_in_one_line(x, words):
    for model in (small(Net), small(ph.PixelCNN, levels=5, hidden=8, blocks=1)):
        with pytest.raises(ValueError, match=words) as error:
            ph.evaluate(model, x)
        assert "\n" not in str(error.value)


def test_images_of_other_libraries_and_types_score_alike():
    module, x = small(Net), torch.randint(5, (4, 1, 4, 4))
    expected = ph.evaluate(module, x)
    for other in (x.numpy(), x.to(torch.uint8), x.to(torch.uint16), x.numpy().astype("uint16"), x.tolist()):
        assert ph.evaluate(module, other) == expected


# -- wrapped modules, subclasses, files ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        torch.compile,
        nn.DataParallel,
        torch.optim.swa_utils.AveragedModel,
        lambda module: nn.DataParallel(torch.compile(nn.DataParallel(module))),
    ],
    ids=["compiled", "parallel", "averaged", "nested"],
)
@pytest.mark.parametrize(
    "make",
    [lambda: small(Labelled, 5, 1, 3), lambda: small(ph.PixelCNN, levels=5, classes=3, hidden=8, blocks=1)],
    ids=["own", "package"],
)
def test_wrapped_models_answer_as_what_they_wrap(make, wrap):
    model, x = make(), torch.randint(5, (4, 1, 4, 4))
    model.classes = 3
    wrapped, labels = wrap(model), torch.arange(4) % 3
    inside = unwrapped(wrapped)
    assert ph.evaluate(wrapped, x, labels) == ph.evaluate(inside, x, labels)
    assert torch.equal(draw(wrapped, label=1, shape=(4, 4)), draw(inside, label=1, shape=(4, 4)))
    ph.check_causal(wrapped, (1, 4, 4))
    for probe in (ph.receptive_field, ph.blind_spot):
        assert torch.equal(*(probe(net, (2, 2), (1, 4, 4)) for net in (wrapped, inside)))
    assert torch.equal(*(ph.effective_receptive_field(net, x, (2, 2), label=1) for net in (wrapped, inside)))
    assert abs(ph.total_probability(wrapped, (1, 2), 5, 2) - 1) < 1e-9
    fit(wrapped, data(5, classes=("a", "b", "c")), epochs=1)


class Louder(ph.GatedPixelCNN):
    """A user's class: what it computes is not what its parent's steps compute."""

    def __init__(self, loud=3.0, **settings):
        super().__init__(**settings)
        self.loud = nn.Parameter(torch.tensor(float(loud)))

    def forward(self, x, label=None):
        return self.loud * super().forward(x, label)


def test_a_users_subclass_trains_loads_through_itself_and_is_drawn_by_what_it_computes(tmp_path, capsys):
    model = small(Louder, levels=5, hidden=8, blocks=1, image_size=4)
    fit(model, data(5), folder=tmp_path)
    again = Louder.from_pretrained(tmp_path / "best").double()
    assert all(torch.equal(a.float(), b.float()) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    drawn = draw(model, 8, method="naive")
    assert torch.equal(drawn, draw(model, 8)) and torch.equal(drawn, draw(again, 8))
    parent = ph.GatedPixelCNN(levels=5, hidden=8, blocks=1, image_size=4).double()
    parent.load_state_dict({name: value for name, value in model.state_dict().items() if name != "loud"})
    assert not torch.equal(drawn, draw(parent, 8))
    with pytest.raises(ValueError, match=r"names the class 'Louder'.*YourClass\.from_pretrained\(folder\)"):
        ph.GatedPixelCNN.from_pretrained(tmp_path / "best")
    assert main(["evaluate", str(tmp_path / "best"), "--data", "digits"]) == 1
    assert "YourClass.from_pretrained" in capsys.readouterr().err


def test_a_module_of_ones_own_loads_what_fit_wrote_and_the_command_line_says_how(tmp_path, capsys):
    module, other = small(Net), small(Net, seed=1)
    fit(module, data(5), folder=tmp_path)
    other.load_state_dict(load_file(tmp_path / "best" / "model.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))
    for words in (["evaluate"], ["sample", "--out", str(tmp_path / "x.png")]):
        assert main([*words, str(tmp_path / "best")]) == 1
        assert "of a module of one's own, 'Net': build that" in capsys.readouterr().err


# -- any number of levels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [257, 1024, 8192])
@pytest.mark.parametrize("kind", [ph.PixelCNN, ph.GatedPixelCNN, ph.PixelSNAIL, ph.PixelCNNPlusPlus])
def test_levels_are_not_bytes(kind, levels):
    model = small(kind, levels=levels, hidden=8, blocks=1, image_size=3)
    drawn = draw(model, method="naive")
    assert drawn.dtype == torch.int64 and drawn.max() < levels
    assert drawn.max() > 255 and len(drawn.unique()) > 3
    for method in ("cached", "fixed-point"):
        assert torch.equal(drawn, draw(model, method=method))
    assert torch.allclose(model.predict(drawn).pmf().sum(-1), torch.ones(()).double())
    assert numpy.isclose(
        *(float(nats.sum().detach()) for nats in (model.predict(drawn).log_prob(drawn), model.log_prob(drawn)))
    )


def test_memory_is_bounded_by_levels_too(monkeypatch):
    """Large codebooks are drawn fewer at a time; the images are the same."""
    batches = []
    model = small(ph.PixelCNN, levels=8192, hidden=6, blocks=1, image_size=2)
    model.register_forward_pre_hook(lambda module, inputs: batches.append(len(inputs[0])))
    expected = draw(model, 9, method="naive")
    monkeypatch.setattr(ph.sampling, "PIXELS", 4 * 4 * 32)
    batches.clear()
    assert torch.equal(expected, draw(model, 9, method="naive"))
    assert max(batches) == 4


class KnowsItsHeight(Net):
    """Causal, but the upper rows of an image alone mean something else."""

    def forward(self, x):
        place = torch.linspace(-1, 1, x.shape[2], dtype=x.dtype)[:, None]
        return super().forward(x) + place * torch.arange(self.split[1]).view(-1, 1, 1)


class HasPlaces(Net):
    """Causal, for images of five rows only."""

    def __init__(self):
        super().__init__()
        self.places = nn.Parameter(torch.randn(1, 5, 6))

    def forward(self, x):
        return super().forward(x) + self.places


@pytest.mark.parametrize("kind", [KnowsItsHeight, HasPlaces])
def test_what_depends_on_the_height_of_an_image_is_not_cropped(kind):
    torch.manual_seed(0)
    module = kind()
    ph.check_causal(module, (1, 5, 6))
    plain = draw(module, shape=(5, 6), method="naive")
    assert torch.equal(plain, draw(module, shape=(5, 6), method="fixed-point")) and len(plain.unique()) > 2
    with pytest.raises(ValueError, match=rf"{kind.__name__} means something else by the upper rows.*'naive' or 'auto'"):
        draw(module, shape=(5, 6), method="cropped")


class MayHaveALabel(Labelled):
    def forward(self, x, label=None):
        return super().forward(x, torch.zeros(len(x), dtype=torch.long) if label is None else label)


def test_a_label_that_may_be_left_out_is_learned_from_and_never_ignored():
    torch.manual_seed(0)
    images = data(5, classes=("a", "b", "c"))
    module = MayHaveALabel(classes=3)
    with pytest.raises(ValueError, match=r"labels are given, MayHaveALabel.forward takes a label, and nobody says"):
        ph.evaluate(module, images.valid, images.valid_labels)
    before = module.of_class.weight.detach().clone()
    fit(module, images)
    moved = (module.of_class.weight - before).abs().amax(1)
    assert (moved > 0).all()  # every class
    right, wrong = (ph.evaluate(module, images.valid, (images.valid_labels + more) % 3) for more in (0, 1))
    assert right != wrong


def test_a_label_that_is_needed_though_it_may_be_none_is_asked_for_by_name():
    class Needs(Labelled):
        def forward(self, x, label=None):
            return super().forward(x, label)

    with pytest.raises(ValueError, match=r"classes=… if it needs a label"):
        draw(Needs(classes=3), shape=(4, 4))


def test_a_table_of_classes_that_is_too_small_is_found_out():
    with pytest.raises(ValueError, match=r"does not take images .* of class 9"):
        ph.as_model(Labelled(classes=3), classes=10)


@pytest.mark.parametrize("order", [torch.zeros(1, 6, 8).long(), torch.zeros(5, 6), "abc"])
def test_ranks_that_do_not_fit_are_refused_where_they_are_told(order):
    with pytest.raises(ValueError, match="order "):
        ph.as_model(Net(), order=order, image_size=(5, 6))


def test_ranks_of_one_size_are_asked_about_at_that_size():
    model = ph.as_model(Net(), order=torch.arange(30).view(5, 6), image_size=(5, 6))
    ph.check_causal(model)


def test_a_module_that_was_made_a_model_draws_what_it_was_trained_on():
    images = data(5)
    model = ph.as_model(Net())
    fit(model, images)
    assert draw(model).shape[1:] == images.train.shape[1:]
    assert draw(ph.as_model(Net(), image_size=(4, 3))).shape[2:] == (4, 3)


def test_another_network_of_the_same_class_is_no_damage(tmp_path):
    class Wide(nn.Sequential):
        def __init__(self, width):
            super().__init__(ph.MaskedConv2d("A", 1, width, 3), nn.ReLU(), nn.Conv2d(width, 5, 1))

    images = data(5)
    fit(Wide(8), images, folder=tmp_path / "run")
    with pytest.raises(ValueError, match=r"is of another network: its weight module.0.weight is \(8, 1, 3, 3\)"):
        fit(Wide(6), images, folder=tmp_path / "run", resume=True)
    with pytest.raises(FileNotFoundError, match=r"run/best is one"):
        ph.PixelCNN.from_pretrained(tmp_path / "run")
