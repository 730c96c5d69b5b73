"""Checks of notebook 10: a level from a uniform number, a likelihood that survives, another bump."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .verdict import Mistake, ask, exercise, name_mistake, of_shape


@exercise
def check_level_of(answer: Callable[[Tensor, Tensor, Tensor, int], Tensor]) -> str:
    """Checks the way from a uniform number to a level, through the inverse CDF of one logistic.

    Arguments:
        answer: takes u, mean and log_scale `[N]`, and the number of levels; returns int64 levels `[N]`.

    Example:
        >>> check_level_of(lambda u, mean, log_scale, levels: mean + log_scale.exp() * u.logit())
        ✗ Not yet. These are the real numbers x themselves: take the level in whose bin each of them falls.
    """
    generator = torch.Generator().manual_seed(0)
    u, mean, log_scale = (torch.rand(400, generator=generator, dtype=torch.float64) for _ in range(3))
    mean, log_scale, levels = 2.6 * mean - 1.3, -4 + 3 * log_scale, 16
    result = ask(answer, u.clone(), mean.clone(), log_scale.clone(), levels)
    result = of_shape(result, u.shape, "one level for each number")
    x = mean + log_scale.exp() * u.logit()

    def rounded(x: Tensor) -> Tensor:
        return ((x + 1) * (levels - 1) / 2).round()

    def kept(x: Tensor) -> Tensor:
        return x.clamp(0, levels - 1)

    right = kept(rounded(x))
    if torch.equal(result.double(), right):
        if result.is_floating_point():
            raise Mistake("The levels are right, but they are floats: end with .long().")
        if result.dtype != torch.int64:
            raise Mistake(f"The levels are right, but they are {result.dtype}: int64 is asked for, as for any index.")
        return "Inverse CDF, nearest level, and what lies beyond the edge belongs to it."
    places = (x + 1) * (levels - 1) / 2
    suspects = [
        (x, "These are the real numbers x themselves: take the level in whose bin each of them falls."),
        (places, "These are places between the levels: round them."),
        (kept(places), "These are places between the levels: round them."),
        (
            rounded(x),
            f"Some of your levels lie outside of 0 … {levels - 1}: the outer bins own the tails, so clamp.",
        ),
        (kept(places.floor()), "You cut off instead of rounding: a level lies in the middle of its bin."),
        (kept(places.long()), "You cut off instead of rounding: a level lies in the middle of its bin."),
        (
            kept(((x + 1) / 2 * levels).floor()),
            f"You cut [-1, 1] into {levels} equal bins. The outermost levels lie *at* -1 and 1, so their bins reach "
            "beyond: level v lies at 2 v / (levels - 1) - 1.",
        ),
        (
            kept(((x + 1) / 2 * levels).round()),
            f"There are {levels} levels, but {levels - 1} steps from -1 to 1.",
        ),
        (kept(rounded(mean + log_scale * u.logit())), "The logarithm of the scale acts as if it were the scale."),
        (
            kept(rounded(mean - log_scale.exp() * u.logit())),
            "Your levels fall as u rises: that is a fair draw, too, but not the inverse of the CDF.",
        ),
        (kept(rounded(mean + log_scale.exp() * u.sigmoid())), "The sigmoid is the CDF. Its inverse is needed: logit."),
        (
            kept(rounded(mean + log_scale.exp() * math.sqrt(2) * torch.erfinv(2 * u - 1))),
            "That is a draw from a normal distribution. The inverse of the logistic's CDF is the logit.",
        ),
        (kept(rounded(u.logit() / log_scale.exp() + mean)), "You divide by the scale: x = mean + scale * logit(u)."),
        (kept(rounded(log_scale.exp() * u.logit())), "The mean does not act."),
        (kept(rounded(mean)), "The uniform number does not act: that is the middle of the bump, each time."),
        (kept(places.ceil()), "You round up: a level lies in the middle of its bin."),
        (kept(rounded(x)) + 1, "One too high: levels begin with 0."),
        (kept(rounded(x) + 1), "One too high: levels begin with 0."),
        (rounded(x).clamp(0, levels), f"There are {levels} levels, and the highest one is {levels - 1}."),
        (rounded(x) % levels, "What lies beyond one edge comes in at the other: it belongs to the nearest level."),
        (kept((x * (levels - 1)).round()), "*x* lies between -1 and 1, not between 0 and 1."),
        (kept(((x + 1) * 127.5).round()), f"You count up to 255: here are {levels} levels."),
        (kept(rounded(mean + (log_scale / 2).exp() * u.logit())), "The scale is exp(log_scale), no root of it."),
        (((x.clamp(-1, 1) + 1) * 127.5).round(), f"You count up to 255: here are {levels} levels."),
    ]
    name_mistake(result.double(), suspects)
    bad = int((result.double() != right).nonzero()[0])
    raise Mistake(
        f"For u = {u[bad]:.3f}, mean {mean[bad]:.3f}, log-scale {log_scale[bad]:.3f} and {levels} levels you return "
        f"{result[bad]}. The CDF reaches u at x = {x[bad]:.3f}; which level is nearest to that?"
    )


def _with_other_levels(answer: Callable) -> None:
    """Asks the same of few levels, and of a bump narrower than any that has come so far."""
    for levels, mean, log_scale in ((8, 0.2, -1.5), (256, 0.3, -9.0)):
        every = torch.arange(levels)
        mean, log_scale = (torch.full((levels,), value) for value in (mean, log_scale))
        result = of_shape(ask(answer, every.clone(), mean, log_scale, levels), every.shape, "one for each level")
        right = _log_mass(every, mean.double(), log_scale.double(), levels)
        if torch.allclose(result.double(), right, rtol=1e-3, atol=2e-3):
            continue
        if levels == 8:
            total = float(result.double().exp().sum())
            raise Mistake(
                "With 256 levels all is right. With `levels` = 8, the probabilities of all levels add up to "
                f"{total:.2f}: what stands for the number of levels in your code?"
            )
        wider = _log_mass(every, mean.double(), log_scale.double() + 1, levels)
        far = int((result.double() - right).abs().argmax())
        raise Mistake(
            f"With log-scale -9, level {far} has log-probability {right[far]:.0f} and you return {result[far]:.0f}"
            + (
                ": your log-scale has a lower limit. A fair guard, but here you need none."
                if result[far] > wider[far]
                else "."
            )
        )


def _log_mass(level: Tensor, mean: Tensor, log_scale: Tensor, levels: int, reach: float = 1.0) -> Tensor:
    place, sharpness = 2 * level / (levels - 1) - 1, (-log_scale).exp()
    half = reach / (levels - 1)
    below, above = (place - half - mean) * sharpness, (place + half - mean) * sharpness
    lowest, highest = level == 0, level == levels - 1
    width = torch.log(-torch.expm1(-2 * half * sharpness)).masked_fill(lowest | highest, 0)
    return F.logsigmoid(above).masked_fill(highest, 0) + F.logsigmoid(-below).masked_fill(lowest, 0) + width


@exercise
def check_logistic_log_prob(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    """Checks a discretised logistic's log-probability: right where it is easy, then where numbers end.

    Arguments:
        answer: takes levels int64 `[N]` in 0 … 255, mean and log_scale float32 `[N]`; returns nats `[N]`.

    Example:
        >>> def naive(level, mean, log_scale):
        ...     place = 2 * level / 255 - 1
        ...     below, above = place - 1 / 255, place + 1 / 255
        ...     below, above = below.masked_fill(level == 0, -math.inf), above.masked_fill(level == 255, math.inf)
        ...     below, above = ((edge - mean) / log_scale.exp() for edge in (below, above))
        ...     return (above.sigmoid() - below.sigmoid()).log()
        >>> check_logistic_log_prob(naive)
        ✗ Not yet. Far from the mean you return -inf: the difference of two sigmoids is 0 there. Write it as a product.
    """
    levels = 256

    def tried(level: Tensor, mean: float, log_scale: float) -> tuple[Tensor, Tensor, list[Tensor]]:
        parameters = [torch.full(level.shape, value, requires_grad=True) for value in (mean, log_scale)]
        result = ask(answer, level.clone(), *parameters)
        of_shape(result, level.shape, "one log-probability for each level")
        gradients = [torch.zeros(level.shape)] * 2
        if result.requires_grad:
            found = torch.autograd.grad(result.sum(), parameters, allow_unused=True)
            gradients = [own if own is not None else zero for own, zero in zip(found, gradients, strict=True)]
        exact = [torch.full(level.shape, value, dtype=torch.float64) for value in (mean, log_scale)]
        return result.detach(), _log_mass(level, *exact, levels), gradients

    def differs(result: Tensor, right: Tensor, tolerance: float = 2e-3) -> bool:
        return not torch.allclose(result.double(), right, rtol=1e-4, atol=tolerance)

    inner = torch.arange(131, 150)
    mean, log_scale = 0.1, -5.0
    result, right, _ = tried(inner, mean, log_scale)
    if differs(result, right):
        exact = [torch.full(inner.shape, value, dtype=torch.float64) for value in (mean, log_scale)]
        z = (2 * inner / (levels - 1) - 1 - exact[0]) * (-exact[1]).exp()
        density = F.logsigmoid(z) + F.logsigmoid(-z) - exact[1]
        suspects = (
            (right.exp(), "These are probabilities: return their logarithms."),
            (-right, "These are negative log-probabilities: leave the sign to the loss."),
            (right / math.log(2), "These are bits: return nats, with the natural logarithm."),
            (
                density,
                "That is the logarithm of the density at the middle of the bin, which can exceed 0: a level has "
                "the *area* over its bin.",
            ),
            (
                density + math.log(2 / (levels - 1)),
                "Density times width is not the area where a bump is narrow: take "
                "the difference of the CDF at the bin's two edges.",
            ),
            (
                _log_mass(inner, *exact, levels, 2.0),
                "Your bins are twice too wide: each reaches *half-way* to the next "
                "level, 1 / (levels - 1) on either side.",
            ),
            (
                _log_mass(inner, exact[0], exact[1].exp(), levels),
                "The scale is exponentiated twice: exp(log_scale) is the scale already.",
            ),
            (_log_mass(inner, exact[0], -exact[1], levels), "The scale is upside down: divide by exp(log_scale)."),
        )
        name_mistake(result.double(), suspects, rtol=1e-3, atol=1e-3)
        if result.isnan().all():
            raise Mistake("You return NaN even near the mean: is the scale exp(log_scale), a positive number?")
        raise Mistake(
            f"For mean {mean} and log-scale {log_scale}, level 140 has log-probability {right[9]:.3f}; you return "
            f"{result[9]:.3f}."
        )

    outer = torch.tensor([0, 255])
    result, right, _ = tried(outer, 0.0, -1.0)
    if differs(result, right):
        exact = [torch.full((2,), value, dtype=torch.float64) for value in (0.0, -1.0)]
        alone = torch.stack([_log_mass(outer + 1, *exact, levels)[0], _log_mass(outer - 1, *exact, levels)[1]])
        beyond = torch.log(-torch.expm1(right))
        if torch.allclose(result.double(), alone, atol=0.05):
            raise Mistake("The outer levels get only their own bin: they own the tails, all that lies beyond it.")
        if torch.allclose(result.double(), beyond, atol=5e-3):
            raise Mistake("The outer levels have each other's tail: level 0 owns what lies *below*, σ(right edge).")
        raise Mistake(
            f"With mean 0 and log-scale -1, levels 0 and 255 have log-probability {right[0]:.3f} each; you return "
            f"{result[0]:.3f} and {result[1]:.3f}."
        )

    every = torch.arange(levels)
    for mean, log_scale in ((-0.9, -5.0), (0.9, -7.0), (-3.0, -6.0)):
        result, right, gradients = tried(every, mean, log_scale)
        if result.isinf().any():
            raise Mistake(
                "Far from the mean you return -inf: the difference of two sigmoids is 0 there. Write it as a product."
            )
        if result.isnan().any():
            raise Mistake("Far from the mean you return NaN: look for inf - inf or 0 * inf.")
        if differs(result, right):
            far = int((result - right).abs().argmax())
            if (gradients[0][far] == 0) or result[far] == result[far - 1] or result[far] == result[(far + 1) % levels]:
                raise Mistake(
                    f"Level {far} has log-probability {right[far]:.1f} and you return {result[far]:.1f}, as for its "
                    "neighbours: a floor. Far-off levels then have no gradient. Write the difference as a product."
                )
            z = torch.tensor((2 * far / (levels - 1) - 1 - mean) * math.exp(-log_scale), dtype=torch.float64)
            middle = F.logsigmoid(z) + F.logsigmoid(-z) - log_scale + math.log(2 / (levels - 1))
            if abs(result[far] - middle) < 1e-2:
                raise Mistake(
                    "Far from the mean you return density times width, as the authors' code does: off by "
                    f"{right[far] - middle:.2f} nats at level {far}. Write the difference as a product."
                )
            raise Mistake(
                f"For mean {mean} and log-scale {log_scale}, level {far} has log-probability {right[far]:.2f}; you "
                f"return {result[far]:.2f}."
            )

    for log_scale in (7.0, 11.0, 14.0):
        result, right, _ = tried(every, 0.0, log_scale)
        if not result.isfinite().all() or differs(result, right):
            limited = [tried(every[1:2], 0.0, other)[0] for other in (log_scale, log_scale + 1)]
            if result.isfinite().all() and torch.equal(*limited):
                raise Mistake("Your log-scale has an upper limit: a fair guard, but with expm1 you need none here.")
            raise Mistake(
                f"With log-scale {log_scale:.0f}, level 100 has log-probability {right[100]:.3f} and you return "
                f"{result[100]:.3f}: 1 - exp(-d) cancels for small d. Use torch.expm1."
            )

    _with_other_levels(answer)
    for mean, log_scale in ((-0.9, -5.0), (0.0, -1.0), (0.9, -7.0), (0.0, 7.0)):
        result, _, gradients = tried(every, mean, log_scale)
        for name, own in zip(("mean", "log_scale"), gradients, strict=True):
            if own.isfinite().all():
                continue
            level = int((~own.isfinite()).nonzero()[0])
            raise Mistake(
                f"The values are right, but the gradient for {name} is {own[level]} at level {level}: an infinite "
                "edge, or a branch of torch.where that is not taken but not finite either. Choose before, not after."
            )
        for name, own in zip(("mean", "log_scale"), gradients, strict=True):
            if not own.any():
                raise Mistake(
                    f"The values are right, but no gradient comes back to `{name}`: what cuts it off?"
                    + (" Stay with tensors, without .item()." if name == "mean" else "")
                )
    return "Tails, far-off levels, narrow and wide bumps, gradients: the patient is healthy."


@exercise
def check_own_bump(answer: Callable[[Tensor, Tensor, Tensor, int], Tensor]) -> str:
    """Checks a likelihood of levels that is made from another bump than the logistic.

    Arguments:
        answer: takes levels int64 `[N]`, mean and log_scale float32 `[N]`, and the number of levels; returns nats
            `[N]`.

    Example:
        >>> check_own_bump(lambda level, mean, log_scale, levels=256: -math.log(levels) * torch.ones(len(level)))
        ✗ Not yet. The probabilities add up to 1, but the mean moves nothing: a bump has a place.
    """

    def tried(mean: float, log_scale: float, levels: int) -> tuple[Tensor, list[Tensor]]:
        every = torch.arange(levels)
        parameters = [torch.full((levels,), value, requires_grad=True) for value in (mean, log_scale)]
        result = ask(answer, every, *parameters, levels)
        nats = of_shape(result, (levels,), "one log-probability for each level").double()
        gradients = [torch.zeros(levels)] * 2
        if result.requires_grad:
            found = torch.autograd.grad(result.sum(), parameters, allow_unused=True)
            gradients = [own if own is not None else zero for own, zero in zip(found, gradients, strict=True)]
        return nats, gradients

    for levels, mean, log_scale in (
        (256, 0.1, -2.0),
        (256, -0.9, -4.0),
        (8, 0.2, -1.5),
        (256, 1.2, -3.0),
        (256, 0.0, 1.5),
    ):
        nats, gradients = tried(mean, log_scale, levels)
        case = f"For mean {mean:g}, log-scale {log_scale:g} and {levels} levels"
        if not nats.isfinite().all():
            level = int((~nats.isfinite()).nonzero()[0])
            raise Mistake(
                f"{case}, level {level} gets {nats[level]:.0f}: no level may be impossible, or one such pixel ends the "
                "training. Which bump never gets so small that its logarithm is lost?"
            )
        total = float(nats.exp().sum())
        if abs(total - 1) > 2e-3:
            raise Mistake(f"{case}, the probabilities of all levels add up to {total:.3f}. {_why_not_one(nats)}")
        if not all(own.isfinite().all() for own in gradients):
            raise Mistake(f"{case}, the values are right and a gradient is not finite.")
        shape = nats[1:-1].diff(), _logistic(mean, log_scale, levels)[1:-1].diff()
        if levels == 256 and mean == 0.1 and torch.allclose(*shape, atol=1e-3):
            raise Mistake("That is the logistic once more. Take another bump: which others have a CDF, or need none?")

    near, far = (tried(mean, -3.0, 256)[0] for mean in (0.0, 0.5))
    if torch.allclose(near, far, atol=1e-3):
        raise Mistake("The probabilities add up to 1, but the mean moves nothing: a bump has a place.")
    for nats, mean in ((near, 0.0), (far, 0.5)):
        likeliest = 2 * float(nats[1:-1].argmax() + 1) / 255 - 1  # the outer levels own their tails
        if abs(likeliest - mean) > 0.02:
            raise Mistake(f"With mean {mean} the likeliest level lies at {likeliest:.2f} on the scale from -1 to 1.")
        top = int(nats[1:-1].argmax()) + 1
        if (nats[1:top].diff() < -1e-4).any() or (nats[top:-1].diff() > 1e-4).any():
            raise Mistake("Further away from the mean is likelier in places: a bump falls on both sides.")
    narrow, wide = (float(torch.special.entr(tried(0.1, log_scale, 256)[0].exp()).sum()) for log_scale in (-4.0, -3.0))
    if not 0.5 < wide - narrow < 1.5:
        raise Mistake(
            f"The entropy grows by {wide - narrow:.2f} nats when the log-scale grows by 1: a bump that is e times as "
            "wide has 1 more."
        )
    for name, own in zip(("mean", "log_scale"), tried(0.1, -3.0, 256)[1], strict=True):
        if not own.any():
            raise Mistake(f"The values are right, but no gradient comes back to `{name}`: what cuts it off?")
    return "A bump of your own: it adds up to 1, has a place and a width, and leaves no level without a chance."


def _logistic(mean: float, log_scale: float, levels: int) -> Tensor:
    mean, log_scale = (torch.full((levels,), value, dtype=torch.float64) for value in (mean, log_scale))
    return _log_mass(torch.arange(levels), mean, log_scale, levels)


def _why_not_one(nats: Tensor) -> str:
    if (nats >= 0).all() and (nats <= 1).all():
        return "Are these probabilities? Return their logarithms."
    if abs(float((-nats).exp().sum()) - 1) < 2e-3:
        return "Are these negative log-probabilities? Leave the sign to the loss."
    if abs(float((nats * math.log(2)).exp().sum()) - 1) < 2e-3:
        return "Are these bits? Return nats."
    if abs(float(nats.exp().sum()) * 2 / (len(nats) - 1) - 1) < 0.05:
        return "Is this a density? A level has the area over its bin."
    return "What is the area over a bin, and who owns the tails beyond 0 and the last level?"
