"""The studio's side in the kernel: messages in, messages out; what it paints is what `sample` draws."""

import threading

import pytest
import torch

import pixelhelpers as ph
from pixelhelpers import widgets
from pixelhelpers.widgets import live
from pixelhelpers.widgets.studio import DRAWN_LATER, KEPT_LATER, Studio, remark_on

pytestmark = pytest.mark.filterwarnings("ignore:known values that come later")  # pytest undoes the studio's own filter


@pytest.fixture(scope="module")
def digits():
    return ph.load_images("digits")


def tiny(kind=ph.PixelCNN, size=6, **keywords):
    torch.manual_seed(0)
    return kind(**{"levels": 5, "hidden": 12, "blocks": 1, "image_size": size} | keywords).eval()


class Ear:
    """Hears what a desk tells, and waits for a message."""

    def __init__(self, desk):
        self.desk, self.heard, self.news = desk, [], threading.Condition()
        desk.tell = self

    def __call__(self, message, buffers=()):
        with self.news:
            self.heard.append((message, buffers))
            self.news.notify_all()

    def ask(self, do, *buffers, **message):
        self.desk.hear({"do": do, **message}, buffers)

    def wait(self, say, turn=None):
        with self.news:
            found = self.news.wait_for(
                lambda: [h for h in self.heard if h[0]["say"] == say and h[0].get("turn") == turn], 60
            )
        assert found, self.heard
        return found[-1]

    def sayings(self, turn):
        return [message["say"] for message, _ in self.heard if message.get("turn") == turn]


HOW = {"label": 1, "count": 2, "temperature": 0.8, "top_p": 0.9, "greedy": False, "seed": 5}


def half(size=6):
    return torch.arange(size)[:, None].expand(size, size) < size // 2


def complete(ear, image, known, turn=1.0, drawn=None, **how):
    buffers = [
        one.to(torch.uint8).contiguous().numpy().tobytes() for one in (image, known, known if drawn is None else drawn)
    ]
    ear.ask("complete", *buffers, turn=turn, **{"model": ear.desk.models.names[0], **HOW} | how)


def images_of(buffer, *shape):
    return torch.frombuffer(bytearray(buffer), dtype=torch.uint8).view(*shape)


@pytest.mark.parametrize("channels, classes", [(1, None), (3, None), (1, 4)])
@pytest.mark.parametrize("kind", [ph.PixelCNN, ph.PixelCNNPlusPlus])
def test_it_paints_what_sample_draws_for_the_same_seed_and_tells_rows_as_they_come(digits, kind, channels, classes):
    model = tiny(kind, image_channels=channels, classes=classes)
    ear = Ear(Studio(model, digits))
    image = torch.randint(5, (channels, 6, 6), dtype=torch.uint8)
    complete(ear, image, half())
    painted = images_of(ear.wait("done", 1.0)[1][0], 2, channels, 6, 6)
    how = {"temperature": 0.8, "top_p": 0.9, "seed": 5, "label": 1 if classes else None, "progress": False}
    assert torch.equal(painted, ph.sample(model, 2, given=image, known=half(), **how))
    assert not torch.equal(painted, ph.sample(model, 2, given=image, known=half(), **how | {"seed": 6}))
    assert len(ear.wait("begun", 1.0)[0]["classes"]) == (classes or 0)
    counted = [int(images_of(b[1], 2, 6, 6).all(2).all(0).sum()) for m, b in ear.heard if m["say"] == "rows"]
    assert counted == sorted(counted) and set(counted) >= {4, 5, 6} and counted[0] < 6


def test_a_module_of_ones_own_is_completed_and_asked_too(digits):
    module = torch.nn.Sequential(ph.MaskedConv2d("A", 1, 4, 3)).eval()
    ear = Ear(Studio(ph.as_model(module, image_size=5), digits))
    assert ear.desk.models.names == ["your Sequential"] and ear.desk.facts["levels"] == 4
    known = torch.arange(5)[:, None].expand(5, 5) < 2
    complete(ear, torch.zeros(1, 5, 5), known, temperature=1, top_p=1)
    painted = images_of(ear.wait("done", 1.0)[1][0], 2, 1, 5, 5)
    blank = torch.zeros(1, 5, 5, dtype=torch.uint8)
    assert torch.equal(painted, ph.sample(module, 2, given=blank, known=known, seed=5, progress=False))


def test_a_newer_wish_ends_the_older_one(digits):
    model = tiny()
    ear, first, go_on = Ear(Studio(model, digits)), threading.Event(), threading.Event()
    told = ear.desk.tell

    def slowly(message, buffers=()):
        told(message, buffers)
        if message["say"] == "rows" and message["turn"] == 1.0:
            first.set()
            go_on.wait(60)

    ear.desk.tell = slowly
    complete(ear, torch.zeros(1, 6, 6), half())
    assert first.wait(60)
    complete(ear, torch.zeros(1, 6, 6), half(), turn=2.0)
    complete(ear, torch.zeros(1, 6, 6), half(), turn=3.0)
    go_on.set()
    ear.wait("done", 3.0)
    assert "done" not in ear.sayings(1.0) and not ear.sayings(2.0)


def test_stop_ends_what_runs(digits):
    ear, first, go_on = Ear(Studio(tiny(), digits)), threading.Event(), threading.Event()
    told = ear.desk.tell

    def slowly(message, buffers=()):
        told(message, buffers)
        if message["say"] == "rows":
            first.set()
            go_on.wait(60)

    ear.desk.tell = slowly
    complete(ear, torch.zeros(1, 6, 6), half())
    assert first.wait(60)
    ear.ask("stop")
    go_on.set()
    ear.desk.drawings.start(lambda check: told({"say": "free"})).join(60)
    assert ear.heard[-1][0] == {"say": "free"} and "done" not in ear.sayings(1.0)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_pixel_says_what_the_model_says_of_it(digits, channels):
    model = tiny(image_channels=channels)
    ear = Ear(Studio(model, digits))
    image = torch.randint(5, (channels, 6, 6), dtype=torch.uint8)
    ear.ask("ask", image.numpy().tobytes(), turn=2.0, model=ear.desk.models.names[0], at=[4, 0])
    answer, buffers = ear.wait("asked", 2.0)
    with torch.inference_mode():
        asked = model.predict(image[None])
        pmf, bits = asked.pmf()[0, :, 4, 0], -asked.log_prob(image[None].long()) / torch.tensor(2.0).log()
    told = torch.frombuffer(bytearray(buffers[0]), dtype=torch.float32).view(channels, 5)
    torch.testing.assert_close(told, pmf)
    assert told.std() > 0.01 and answer["levels"] == image[:, 4, 0].tolist()
    assert answer["bits"] == pytest.approx(bits[0, :, 4, 0].tolist(), abs=1e-4)
    assert answer["mean"] == pytest.approx(float(bits.mean()), abs=1e-4)
    assert (answer["place"], answer["before"], answer["after"]) == (25, (3, 5), (4, 1))
    row, column = answer["dearest"]
    assert bits[0, :, row, column].sum() == bits[0].sum(0).max() > bits[0].sum(0).min() + 0.01
    field = images_of(ear.wait("seen", 2.0)[1][0], 6, 6).bool()
    assert torch.equal(field, ph.receptive_field(model, (4, 0))) and field.any() and not field.all()


def test_walking_follows_the_models_own_order(digits):
    ear = Ear(Studio(tiny(ph.MultiscalePixelCNN, size=8, base=2, doublings=2), digits))
    at, walked = [0, 0], []
    for k in range(64):
        ear.ask("ask", bytes(64), turn=float(k), model=ear.desk.models.names[0], at=at)
        walked.append(tuple(at))
        assert ear.wait("asked", float(k))[0]["place"] == k + 1
        at = list(ear.wait("asked", float(k))[0]["after"])
    rank = ear.desk.models[ear.desk.models.names[0]].order((1, 8, 8))[0]
    ranks = [int(rank[pixel]) for pixel in walked]
    assert ranks == sorted(ranks) and len(set(walked)) == 64 and walked != sorted(walked)


def test_what_does_not_come_first_is_said_in_words(digits):
    ear = Ear(Studio(tiny(), digits))
    cases = [(half(), half(), ""), (~half(), half(), KEPT_LATER), (half(), torch.ones(6, 6), DRAWN_LATER)]
    for turn, (known, drawn, remark) in enumerate(cases):
        complete(ear, torch.zeros(1, 6, 6), known, turn=float(turn), drawn=drawn)
        assert ear.wait("begun", float(turn))[0]["remark"] == remark
        ear.wait("done", float(turn))
    everything = torch.ones(6, 6, dtype=torch.bool)
    order = tiny().order((1, 6, 6))
    assert remark_on(everything, everything, order) == remark_on(~everything, ~everything, order) == ""


@pytest.mark.parametrize(
    "how, words",
    [
        ({"temperature": 0}, "temperature is 0.0"),
        ({"model": "unheard of"}, "no model is called 'unheard of'"),
        ({"label": 9}, "label runs from 9"),
        ({"count": 0}, "count is 0"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(digits, how, words):
    ear = Ear(Studio(tiny(classes=4), digits))
    complete(ear, torch.zeros(1, 6, 6), half(), **how)
    assert words in ear.wait("trouble", 1.0)[0]["text"]
    ear.ask("picture", number=7)
    assert "there is no picture 7" in ear.wait("trouble")[0]["text"]
    complete(ear, torch.zeros(1, 6, 6), half(), turn=2.0)
    ear.wait("done", 2.0)


def test_a_model_that_fails_is_told_too_and_unknown_messages_do_nothing(digits):
    class Breaks(torch.nn.Module):
        levels, asked = 4, False

        def forward(self, x):
            if self.asked:
                raise RuntimeError("no more")
            return torch.zeros(len(x), 4, *x.shape[2:])

    module = Breaks()
    ear = Ear(Studio(ph.as_model(module, image_size=4), digits))
    module.asked = True
    complete(ear, torch.zeros(1, 4, 4), torch.zeros(4, 4))
    assert "RuntimeError: no more" in ear.wait("trouble", 1.0)[0]["text"]
    heard = len(ear.heard)
    ear.ask("__init__")
    ear.ask("guarded")
    assert len(ear.heard) == heard


def test_shipped_weights_and_pictures_are_there_where_they_fit(digits):
    ear = Ear(Studio(images=digits))
    assert ear.desk.models.names == sorted(n for n in ph.list_pretrained() if n.endswith("-digits"))[3:4] + [
        n for n in ph.list_pretrained() if n.endswith("-digits") and not n.startswith("pixelcnn")
    ]
    ear.ask("picture", number=3)
    message, buffers = ear.wait("picture")
    assert buffers[0] == digits.valid[3].numpy().tobytes() and message["label"] == int(digits.valid_labels[3])
    own = Studio(tiny(levels=256, size=28), digits)
    assert own.models.names[0] == "your PixelCNN" and len(own.models.names) == 6 and own.facts["pictures"] == 500
    other = Studio(tiny(), digits)
    assert other.models.names == ["your PixelCNN"] and other.facts["pictures"] == 0


def test_codes_cannot_be_drawn(digits):
    with pytest.raises(ValueError, match="512 levels"):
        Studio(tiny(levels=512), digits)


def test_where_no_live_picture_can_be_a_picture_stands_in(digits, monkeypatch):
    desk = Studio(tiny(), digits)
    assert desk.stand_in.startswith('<img alt="') and "In a running notebook" in desk.stand_in
    monkeypatch.setitem(__import__("sys").modules, "anywidget", None)
    assert desk.stand_in in live.live(desk).value
    monkeypatch.undo()
    pytest.importorskip("anywidget")
    picture = widgets.studio(tiny(), digits)
    bundle = picture._repr_mimebundle_()[0]
    assert bundle["text/html"].startswith('<img alt="') and "application/vnd.jupyter.widget-view+json" in bundle


def test_the_script_asks_nothing_of_the_network():
    script = live.SCRIPT.read_text(encoding="utf-8")
    assert "export default" in script and not [
        word for word in ("import ", "fetch(", "http:", "https:", "url(") if word in script
    ]
