"""What can go wrong and has a name: `ModelError`, `CausalityError`, `DataError`; `require` says it in words."""


class ModelError(AssertionError):
    """Raised by `check_model`: the model breaks what every autoregressive model promises."""


class CausalityError(ModelError):
    """Raised by `check_causal`: an output depends on what is not drawn before it, or on nothing."""


class DataError(RuntimeError):
    """A data set cannot be had; the message says why, and what to do."""


def require(holds: bool, otherwise: str, error: type[Exception] = ValueError) -> None:
    """Raises an error unless something holds.

    Arguments:
        holds: what must be so.
        otherwise: the error's text: what was given, what was expected and what to do.
        error: the kind of error.

    Example:
        >>> require(2 + 2 == 4, "count again")
    """
    if not holds:
        raise error(otherwise)
