"""What must hold of what a network's output means."""

import pytest
import torch
from torch.nn import functional as F

from pixelhelpers.distributions import ROWS, Categorical, categorical_log_prob


@pytest.mark.parametrize("rows", [1, 7, ROWS, 2 * ROWS + 3])
@pytest.mark.parametrize("levels", [2, 256])
def test_log_prob_and_its_gradient_are_those_of_cross_entropy(rows, levels):
    torch.manual_seed(0)
    logits = (5 * torch.randn(rows, levels, dtype=torch.float64)).requires_grad_()
    chosen = torch.randint(levels, (rows,))
    weights = torch.randn(rows, dtype=torch.float64)
    expected = -F.cross_entropy(logits, chosen, reduction="none")
    (expected_grad,) = torch.autograd.grad(expected @ weights, logits)
    got = categorical_log_prob(logits, chosen)
    (grad,) = torch.autograd.grad(got @ weights, logits)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(grad, expected_grad)


def test_log_prob_changes_neither_logits_nor_a_second_backward_pass():
    logits = torch.randn(5, 4, requires_grad=True)
    before = logits.detach().clone()
    total = categorical_log_prob(logits, torch.zeros(5, dtype=torch.long)).sum()
    first = torch.autograd.grad(total, logits, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(total, logits)[0], first)
    assert torch.equal(logits, before)


def test_a_hopeless_level_has_a_finite_cost():
    logits = torch.tensor([[0.0, 300.0]], requires_grad=True)
    log_prob = categorical_log_prob(logits, torch.tensor([0]))
    log_prob.sum().backward()
    assert log_prob.item() == -300 and logits.grad.isfinite().all()


def test_pmf_is_a_softmax():
    pmf = Categorical(logits=torch.randn(3, 4, 7)).pmf()
    assert pmf.shape == (3, 4, 7)
    torch.testing.assert_close(pmf.sum(-1), torch.ones(3, 4))
