"""The games' side in the kernel: what is dealt is real or painted as it says, and the model's bits are its own."""

import pytest
import torch

import pixelhelpers as ph
from pixelhelpers.widgets.games import GuessThePixel, WhoPaintedIt
from tests.test_studio import Ear, images_of


@pytest.fixture(scope="module")
def pictures():
    """Twenty-four grey images of 8 × 8 pixels, none like another."""
    images = torch.randint(5, (24, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ph.Images.from_arrays(images, images, levels=5)


def tiny(kind=ph.PixelCNN, **keywords):
    torch.manual_seed(0)
    return kind(**{"levels": 5, "hidden": 12, "blocks": 1, "image_size": 8} | keywords).eval()


def test_half_of_what_is_dealt_is_real_and_half_painted_as_sample_does(pictures):
    model = tiny()
    ear = Ear(WhoPaintedIt(model, pictures))
    ear.ask("deal", turn=1.0, model="your PixelCNN", temperature=0.7, seed=3)
    message, buffers = ear.wait("dealt", 1.0)
    images, painted = images_of(buffers[0], 20, 1, 8, 8), torch.tensor(message["painted"])
    assert painted.sum() == 10 and painted[:10].any() and not painted[:10].all()
    expected = ph.sample(model, 10, temperature=0.7, seed=3, progress=False)
    assert {one.numpy().tobytes() for one in images[painted]} == {one.numpy().tobytes() for one in expected}
    assert {one.numpy().tobytes() for one in images[~painted]} <= {one.numpy().tobytes() for one in pictures.valid}


@pytest.mark.parametrize("kind, how", [(ph.PixelCNN, {}), (ph.MultiscalePixelCNN, {"base": 2, "doublings": 2})])
def test_the_pixels_to_guess_come_in_the_models_order_with_its_probabilities(pictures, kind, how):
    model = tiny(kind, **how)
    ear = Ear(GuessThePixel(model, pictures))
    ear.ask("deal", turn=1.0, model=ear.desk.models.names[0], seed=1)
    message, (image, pmf, rank) = ear.wait("dealt", 1.0)
    image, pmf = images_of(image, 1, 1, 8, 8), torch.frombuffer(bytearray(pmf), dtype=torch.float32).view(10, 5)
    rank = torch.frombuffer(bytearray(rank), dtype=torch.int32).view(8, 8)
    rows, columns = torch.tensor(message["pixels"]).T
    assert (image == pictures.valid).flatten(1).all(1).any()
    assert torch.equal(rank.long(), model.order((1, 8, 8))[0]) and (rank[rows, columns].diff() >= 0).all()
    assert len(set(map(tuple, message["pixels"]))) == 10
    with torch.inference_mode():
        torch.testing.assert_close(pmf, model.predict(image).pmf()[0, 0, rows, columns])
    assert pmf.std() > 0.01


@pytest.mark.parametrize("game", [WhoPaintedIt, GuessThePixel])
def test_without_pictures_of_the_models_shape_there_is_no_game(game):
    with pytest.raises(ValueError, match="no pictures like that"):
        game(tiny(), ph.load_images("digits"))


def test_trouble_is_told_and_colours_are_not_guessed(pictures):
    ear = Ear(WhoPaintedIt(tiny(), pictures))
    ear.ask("deal", turn=1.0, model="your PixelCNN", temperature=-1, seed=3)
    assert "temperature is -1.0" in ear.wait("trouble", 1.0)[0]["text"]
    colour = ph.Images.from_arrays(*(pictures.valid.expand(-1, 3, -1, -1),) * 2, levels=5)
    with pytest.raises(ValueError, match="in colour"):
        GuessThePixel(tiny(image_channels=3), colour)
