"""How a check speaks: solved, not solved yet, or what is wrong."""

import functools
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HERE = str(Path(__file__).parents[1])


class Mistake(Exception):
    """An answer is wrong; the message says what is wrong and what to look at."""


class Unsolved(Exception):
    """There is no answer yet."""


def ask(answer: Callable, *arguments: Any) -> Any:
    """Calls a learner's function and gives its result.

    Arguments:
        answer: the function.
        arguments: what to call it with.

    Raises:
        Unsolved: when it returns None or `...`, or raises `NotImplementedError`.

    Example:
        >>> ask(lambda x: x + 1, 2)
        3
    """
    try:
        result = answer(*arguments)
    except NotImplementedError:
        raise Unsolved from None
    if result is None or result is ...:
        raise Unsolved
    return result


def of_shape(result: Any, shape: tuple[int, ...], what: str) -> Tensor:
    """Gives a result that is a tensor of this shape, without its gradient.

    Arguments:
        result: what a learner's function returned.
        shape: of the right answer.
        what: what the tensor holds, in words.

    Raises:
        Mistake: when it is something else.

    Example:
        >>> of_shape(torch.zeros(2), (2,), "one level for each number")
        tensor([0., 0.])
    """
    if not isinstance(result, Tensor) or result.shape != shape:
        kind = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise Mistake(f"You return {kind}: return {what}, {tuple(shape)}.")
    return result.detach()


def name_mistake(result: Tensor, suspects: Iterable[tuple[Tensor, str]], **tolerance: float) -> None:
    """Looks for the mistake that leads to this result.

    Arguments:
        result: what a learner's function returned.
        suspects: the results of known mistakes, each with what to say of it.
        tolerance: rtol and atol, as for `torch.allclose`.

    Raises:
        Mistake: when the result is one of theirs.

    Example:
        >>> name_mistake(torch.ones(2), [(torch.zeros(2), "These are zeros.")])
    """
    for wrong, words in suspects:
        if torch.allclose(result, wrong.to(result), equal_nan=True, **tolerance):
            raise Mistake(words)


def learns(result: Tensor, **inputs: Tensor) -> None:
    """Asks whether a right result would let a network learn: whether a gradient comes back.

    Arguments:
        result: what a learner's function returned.
        inputs: what it was computed from, by the learner's name for it.

    Raises:
        Mistake: when one of the inputs gets no gradient, or nothing but zeros.

    Example:
        >>> weight = torch.ones(2, requires_grad=True)
        >>> learns(2 * weight, weight=weight)
    """
    for name, own in inputs.items():
        found = (
            torch.autograd.grad(result.sum(), own, retain_graph=True, allow_unused=True) if result.requires_grad else ()
        )
        if not any(gradient is not None and gradient.any() for gradient in found):
            raise Mistake(
                f"The numbers are right, but no gradient comes back to `{name}`: a network with this in it would not "
                "learn. What cuts a result off from what it was computed from?"
            )


def exercise(check: Callable[[Any], str]) -> Callable[[Any], None]:
    """Makes a check print its verdict.

    Arguments:
        check: takes the answer; returns a line of praise, or raises `Mistake` or `Unsolved`.

    Example:
        >>> @exercise
        ... def check_double(answer):
        ...     if ask(answer, 2) != 4:
        ...         raise Mistake("2 must become 4.")
        ...     return "That doubles."
        >>> check_double(lambda x: ...)
        ✎ Not solved yet: fill in the answer above (does it return something?) and run the cell again.
        >>> check_double(lambda x: x)
        ✗ Not yet. 2 must become 4.
        >>> check_double(lambda x: 2 * x)
        ✓ That doubles.
    """

    @functools.wraps(check)
    def verdict(answer: Any) -> None:
        try:
            if answer is None or answer is ...:
                raise Unsolved
            print("✓", check(answer))
        except Unsolved:
            print("✎ Not solved yet: fill in the answer above (does it return something?) and run the cell again.")
        except Mistake as mistake:
            print("✗ Not yet.", mistake)
        except Exception as error:  # the learner's own
            lines = traceback.extract_tb(error.__traceback__)
            own = [
                line for line in lines if "site-packages" not in line.filename and not line.filename.startswith(HERE)
            ]
            line = (own or lines)[-1]
            print(f"✗ Your code raised {type(error).__name__} in line {line.lineno} ({line.name}): {error}")

    return verdict
