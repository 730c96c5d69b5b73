"""What neighbours share beyond what a model knew: planted agreement is found where it was planted, and nowhere else."""

import pytest
import torch

from pixelhelpers.probes import agreement

EVERYWHERE = torch.ones(400, 6, 6, dtype=torch.bool)


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_independent_residuals_agree_nowhere():
    found = agreement(noise(400, 6, 6), EVERYWHERE)
    assert found.isnan().nonzero().tolist() == [[2, 2]]
    assert found.nan_to_num().abs().max() < 0.05


@pytest.mark.parametrize("down, right", [(0, 1), (1, 0), (2, 0), (1, 1), (1, -1), (2, -2)])
def test_what_one_pixel_shares_with_another_is_found_at_their_distance_only(down, right):
    own = noise(400, 6, 6)
    found = agreement(own + own.roll((down, right), (1, 2)), EVERYWHERE)
    planted = torch.zeros(5, 5)
    planted[2 + down, 2 + right] = planted[2 - down, 2 - right] = 0.5
    # Rolled-in pixels agree with others, far away: at such small distances only by chance.
    torch.testing.assert_close(found.nan_to_num(), planted, rtol=0, atol=0.08)


def test_only_pairs_that_count_on_both_sides_are_taken():
    shared = noise(400, 6, 1).expand(-1, -1, 6)
    where = EVERYWHERE.clone()
    where[:, :, 3:] = False
    spoiled = torch.where(where, shared, noise(400, 6, 6))
    assert agreement(spoiled, where)[2, 3] > 0.99 > 0.9 > agreement(spoiled, EVERYWHERE)[2, 3]
    assert agreement(spoiled, ~EVERYWHERE).isnan().all()


def test_shapes_that_differ_and_a_reach_beyond_the_image_are_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 4, 4\), and where \(1, 4, 5\)"):
        agreement(torch.zeros(1, 4, 4), torch.zeros(1, 4, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="reach is 4 for 4 × 4 pixels"):
        agreement(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool), reach=4)
