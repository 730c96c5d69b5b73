"""What can go wrong and has a name: `ModelError`, `CausalityError`, `DataError`."""


class ModelError(AssertionError):
    """Raised by `check_model`: the model breaks what every autoregressive model promises."""


class CausalityError(ModelError):
    """Raised by `check_causal`: an output depends on what is not drawn before it, or on nothing."""


class DataError(RuntimeError):
    """A data set cannot be had; the message says why, and what to do."""
