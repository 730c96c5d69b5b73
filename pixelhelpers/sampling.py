"""Drawing images exactly: `sample`, and for one value `draw`; the `model_and_shape`, the `chosen_method`, and
`why_not_cached`.

One uniform number per value is drawn first and turned into a level by the inverse of the conditional's
cumulative distribution. So an image is a function of its numbers: whatever draws it, in whatever batch,
gets the same one.
"""

import math
import warnings
from collections import namedtuple
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, repeat

import torch
from torch import Tensor, nn

from .arguments import image_shape, integers, real, whole
from .data.images import value_type
from .errors import CausalityError, require
from .hardware import free_memory, full_precision
from .models.base import AutoregressiveModel, Stepper, evaluation_mode, structure
from .models.own import OwnModule, facts_of, model_of_images, sides, unwrapped
from .processes import Processes, together
from .progress import progress_bar
from .stepping import Fronts, Wavefront

METHODS = ("auto", "naive", "cropped", "cached", "fixed-point")
PIXELS = 128 * 28 * 28  # of at most 256 levels that are drawn together: bounds the memory, changes no image


def sample(
    model: nn.Module,
    count: int,
    *,
    method: str = "auto",
    shape: tuple[int, int] | tuple[int, int, int] | None = None,
    temperature: float = 1.0,
    top_p: float | None = None,
    greedy: bool = False,
    given: Tensor | None = None,
    known: Tensor | None = None,
    label: int | Tensor | None = None,
    seed: int | None = None,
    progress: bool = True,
    on_step: Callable[[Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Draws images, value by value in the model's order, on the device where the model is.

    Processes of `torchrun` share the images, and each returns them all. Several threads may draw from one model.

    With `given` and `known`, images are completed: known values are kept, the others drawn. That is an
    exact draw from p(unknown | known) when the known values come first in the model's order; a warning says
    so when they do not, since a value cannot take later ones into account.

    Arguments:
        model: a model of the package, or a module of your own as `as_model` takes it.
        count: number of images, at least 1.
        method: "naive" (one forward pass over whole images per value); "cropped" (the same, over the rows
            down to that value's: for models that allow it, as convolutions do); "cached" (each layer
            computes each value once: for models with a `stepper`); "fixed-point" (forward passes that
            redraw all values at once until none changes); "auto" (cached, else fixed-point). All give
            the same images; in float32 they may part where a number lies within 1e-4 of a CDF step, in
            shorter formats more often. "fixed-point" leaves out images that are done: a module that holds
            something for each image of the batch needs "naive", and a count of 128 * 28 * 28 pixels at most.
        shape: (height, width) in pixels, or (channels, height, width); default: that of `given`, else the
            model's `image_size`, which `fit` notes on a module of your own.
        temperature: conditionals are raised to 1/temperature and normalised; above 0, 1 leaves them alone.
        top_p: draw only among the most likely levels that together reach this probability, in (0, 1].
        greedy: take the most likely level instead (the lowest of equals).
        given: images to complete, integers `[C, H, W]` or `[count, C, H, W]`.
        known: which of their values to keep, bool `[H, W]`, `[C, H, W]` or `[count, C, H, W]`.
        label: class or classes `[count]`, for a model with classes.
        seed: same seed, same images, a whole number of at most 63 bits; image k depends on seed and k only.
            None takes one from PyTorch's global generator.
        progress: show a progress bar.
        on_step: called after each turn with `(images, drawn)`: the images so far, integers `[count, C, H, W]`, and
            which of their values will not change any more, bool of the same shape. Both are its own to keep. What it
            raises ends the drawing.

    Returns:
        `[count, C, H, W]`, values in `[0, levels)`, on the CPU: uint8 up to 256 levels, int64 above.

    Raises:
        ValueError: for arguments off their range or shape, before anything is drawn.

    References:
        van den Oord et al. 2016, section 2 (equations 1 and 2: the order of drawing).

    Example:
        >>> from pixelhelpers import PixelCNN
        >>> model = PixelCNN(levels=4, hidden=8, blocks=1, image_size=5)
        >>> images = sample(model, 2, seed=0, progress=False)
        >>> images.shape, images.dtype
        (torch.Size([2, 1, 5, 5]), torch.uint8)
        >>> bool((images == sample(model, 3, seed=0, progress=False)[:2]).all())
        True
    """
    count, temperature = whole("count", count), real("temperature", temperature)
    require(count >= 1, f"count is {count}: give at least 1.")
    require(method in METHODS, f"method is {method!r}: give one of {', '.join(METHODS)}.")
    require(
        0 < temperature < math.inf,
        f"temperature is {temperature}: give a number above 0, or greedy=True for the limit 0.",
    )
    top_p = None if top_p is None else real("top_p", top_p)
    require(top_p is None or 0 < top_p <= 1, f"top_p is {top_p}: give a number in (0, 1].")
    seed = None if seed is None else whole("seed", seed)
    require(seed is None or -(2**63) <= seed < 2**63, f"seed is {seed}: give a whole number of at most 63 bits.")
    given = None if given is None else integers("given", given, "integers [C, H, W] or [count, C, H, W]")
    known = None if known is None else _as_bool(known)
    model, (channels, height, width) = model_and_shape(model, shape, given, count)
    run = chosen_method(model, method, (channels, height, width))
    _check_memory(count, (channels, height, width), model.levels)
    canvas, kept = _start(count, (channels, height, width), given, known, model.levels)
    label = model.labels(label, count)
    _check_weights(model)
    if method == "cropped":
        _check_crops(model, (min(count, _at_once((height, width), model.levels)), channels, height, width), label)
    if kept is not None and not _come_first(kept, model.order((channels, height, width))):
        warnings.warn(
            "known values that come later in the drawing order are ignored while earlier ones are drawn: "
            "only what is known before is taken into account.",
            stacklevel=2,
        )
    asked = {"canvas": canvas, "known": kept, "label": label, "seed": seed}
    how = {"temperature": temperature, "top_p": top_p, "greedy": greedy}
    # Whoever watches sees all images: then each process draws them all.
    processes = Processes() if on_step else together("sample", model=model, **asked, **how)
    mine = processes.share(count)
    if seed is None:
        seed = int(processes.all(torch.randint(2**62, (1,)))[0])
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters(), canvas).device
    numbers_on = "cpu" if device.type == "mps" else device  # which has no float64
    at_once = _at_once((height, width), model.levels)
    settled = None  # which values will not change any more, if anybody wants to know
    if on_step is not None:
        settled = torch.zeros_like(canvas, dtype=torch.bool) if kept is None else kept.clone()

    def numbers(images: int) -> Tensor:
        """The next ones of the one stream for all images: they get the same whatever is drawn together."""
        return torch.rand(images, channels, height, width, dtype=torch.float64, generator=generator)

    def report(part: slice, x: Tensor, drawn: Tensor) -> None:
        canvas[part] = x.cpu()
        settled[part] |= drawn.cpu()
        with torch.inference_mode(False):  # what is handed out is fit for any use
            on_step(canvas.clone(), settled.clone())

    shown = progress and processes.rank == 0
    bar = progress_bar(canvas[mine].numel(), "value", shown=shown, desc=f"{count} images", leave=False)
    try:
        # A learner's own module may keep tensors from one call to the next; those of inference mode cannot be trained.
        gradients_off = torch.no_grad() if isinstance(model, OwnModule) else torch.inference_mode()
        with evaluation_mode(model), full_precision(device), gradients_off:
            for start in range(0, mine.start, at_once):
                numbers(min(at_once, mine.start - start))  # those of other processes' images
            for start in range(mine.start, mine.stop, at_once):
                part = slice(start, min(start + at_once, mine.stop))
                job = _Job(
                    model,
                    x=canvas[part].to(device),
                    known=None if kept is None else kept[part].to(device),
                    label=None if label is None else label[part],
                    uniform=numbers(part.stop - part.start).to(numbers_on),
                    draw=partial(draw, temperature=temperature, top_p=top_p, greedy=greedy),
                    bar=bar,
                    report=None if on_step is None else partial(report, part),
                )
                canvas[part] = run(job).cpu()
    finally:
        bar.close()
    return processes.join(canvas)


def draw(
    pmf: Tensor,
    uniform: Tensor,
    *,
    temperature: float = 1.0,
    top_p: float | None = None,
    greedy: bool = False,
) -> Tensor:
    """Turns one uniform number per value into a level: the smallest v with CDF(v) > u.

    Arguments:
        pmf: probabilities `[..., levels]`.
        uniform: numbers in [0, 1), `[...]`.
        temperature: exponent 1/temperature on the probabilities, then normalised; above 0.
        top_p: after that, keep only the most likely levels that together reach this probability.
        greedy: take the most likely level (the lowest of equals) and ignore `uniform`.

    Returns:
        int64 levels `[...]`, never one without probability.

    References:
        Devroye, "Non-Uniform Random Variate Generation", 1986 (inversion);
        Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020 (top-p),
        https://arxiv.org/abs/1904.09751

    Example:
        >>> pmf = torch.tensor([0.25, 0.25, 0.5])
        >>> [int(draw(pmf, torch.tensor(u))) for u in (0.0, 0.25, 0.49, 0.5, 0.99)]
        [0, 1, 1, 2, 2]
        >>> int(draw(pmf, torch.tensor(0.0), greedy=True))
        2
    """
    if greedy:
        levels = torch.arange(pmf.shape[-1], device=pmf.device)
        largest = pmf.amax(-1, keepdim=True)
        if largest.is_cpu:
            _check_total(largest)
        most = pmf == largest
        return torch.where(most, levels, pmf.shape[-1]).amin(-1)
    if pmf.is_mps:  # which has no float64
        pmf = pmf.cpu()
    if temperature != 1:
        log = pmf.double().log()
        pmf = ((log - log.amax(-1, keepdim=True)) / temperature).softmax(-1)
    if top_p is not None:
        likely, level = torch.sort(pmf.double(), dim=-1, descending=True, stable=True)
        needed = likely.cumsum(-1) - likely < top_p
        pmf = torch.zeros_like(likely).scatter(-1, level, likely * needed)
        pmf = pmf / pmf.sum(-1, keepdim=True)
    # A GPU sums in another order for each level: in float32 one without mass would, now and then, get some.
    least = torch.float32 if pmf.is_cpu else torch.float64
    cdf = pmf.cumsum(-1, dtype=torch.promote_types(pmf.dtype, least))
    # Rounding may leave the total below 1 and u above it: just below the total is the last level with mass.
    total = cdf.narrow(-1, -1, 1)
    if total.is_cpu:
        _check_total(total)
    just_below = total.sub(total, alpha=torch.finfo(cdf.dtype).eps / 2)  # the next number, whatever the total
    uniform = uniform.to(cdf).unsqueeze(-1).minimum(just_below)
    return torch.searchsorted(cdf, uniform, right=True).squeeze(-1)


# -- what happens inside ------------------------------------------------------------------------------


def _check_total(total: Tensor) -> None:
    """Refuses probabilities that are no numbers or all zero. A GPU is not asked: that would stop it."""
    if not total.min().item() > 0:
        raise ValueError("the model gives probabilities that are NaN or all zero: nothing can be drawn from them.")


def _check_weights(model: nn.Module) -> None:
    for name, value in model.named_parameters():
        require(
            not value.numel() or value.max().item() < math.inf,  # -inf is how one forbids a level
            f"the weight {name!r} holds NaN or infinite numbers: load weights from before that.",
        )


def _check_crops(model: AutoregressiveModel, shape: tuple[int, int, int, int], label: Tensor | None) -> None:
    """Refuses a model for which an image's upper rows alone mean something else, as where it knows how high it is."""
    generator, device = torch.Generator().manual_seed(0), next(model.parameters(), torch.zeros(())).device
    x = torch.randint(model.levels, shape, generator=generator).to(device)
    label = None if label is None else label[: len(x)]
    obstacle = f"{type(getattr(model, 'module', model)).__name__} means something else by the upper rows of an image"
    with evaluation_mode(model), full_precision(device), torch.no_grad():
        whole = model.conditional_parameters(x, label)
        near = max(1e-3, torch.finfo(whole.dtype).eps ** 0.5)
        for rows in {1, shape[2] // 2} - {0, shape[2]}:
            try:
                part = model.conditional_parameters(x[:, :, :rows], label)
            except (ValueError, RuntimeError) as error:
                raise ValueError(f"{obstacle}: no rows can be cropped; give method='naive' or 'auto'.") from error
            same = torch.allclose(part, whole[..., :rows, :], rtol=near, atol=near)
            require(same, f"{obstacle}: no rows can be cropped; give method='naive' or 'auto'.")


def model_and_shape(
    model: nn.Module, shape: tuple[int, ...] | None, given: Tensor | None = None, count: int = 1
) -> tuple[AutoregressiveModel, tuple[int, int, int]]:
    """Takes a model or a module as a model, and completes the (C, H, W) of what it is to draw.

    Arguments:
        model, shape, given, count: as for `sample`.
    """
    given = None if given is None else integers("given", given, "integers [C, H, W] or [count, C, H, W]")
    if given is not None and given.dim() not in (3, 4):
        raise ValueError(f"given has shape {tuple(given.shape)}: give integers [C, H, W] or [count, C, H, W].")
    model = unwrapped(model)
    facts = facts_of(model)
    if shape is None:
        shape = sides(facts.get("image_size", 28)) if given is None else given.shape[-2:]
    asked, height, width = image_shape(shape)
    if given is not None and tuple(given.shape[-2:]) != (height, width):
        raise ValueError(
            f"shape is {shape}, but given has {tuple(given.shape[-2:])}: leave shape out.{_channels_last(given)}"
        )
    channels = facts.get("image_channels") or asked or (None if given is None else given.shape[-3])
    model = model_of_images(model, (channels, height, width), min(count, _at_once((height, width), 256)))
    if given is not None and given.shape[-3] != model.image_channels:
        raise ValueError(
            f"given has {given.shape[-3]} channels, shape {tuple(given.shape)}, the model draws "
            f"{model.image_channels}: give [{model.image_channels}, H, W] or [count, {model.image_channels}, H, W]."
            f"{_channels_last(given)}"
        )
    require(
        asked in (None, model.image_channels),
        f"shape is {shape}, but the model draws {model.image_channels} channels: give (height, width).",
    )
    return model, (model.image_channels, height, width)


def _channels_last(given: Tensor) -> str:
    return " Channels last? Give given.movedim(-1, -3)." if given.shape[-1] <= 4 < given.shape[-3] else ""


def _as_bool(known) -> Tensor:
    try:
        return torch.as_tensor(known)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"known is a {type(known).__name__}: give bool [H, W], [C, H, W] or [count, C, H, W]."
        ) from None


def _at_once(size: tuple[int, int], levels: int) -> int:
    """How many images are drawn together: a probability for every level of every pixel is held in memory."""
    return max(1, PIXELS * 256 // (math.prod(size) * max(256, levels)))


def _check_memory(count: int, shape: tuple[int, int, int], levels: int) -> None:
    size, free = count * math.prod(shape) * value_type(levels).itemsize, free_memory()
    require(
        size < free,
        f"count is {count}: so many images of {'×'.join(map(str, shape))} take {size / 1e9:,.0f} GB, and "
        f"{free / 1e9:,.0f} GB of memory are free: draw fewer, in turns, each with a seed of its own.",
    )


def _start(count, shape, given, known, levels) -> tuple[Tensor, Tensor | None]:
    """The canvas, all zero but for known values, and which values are to be kept (None: none)."""
    canvas = torch.zeros(count, *shape, dtype=value_type(levels))
    if given is None and known is None:
        return canvas, None
    require(
        given is not None and known is not None,
        "given and known belong together: the images, and which of their values to keep.",
    )
    require(
        known.dtype == torch.bool and known.dim() in (2, 3, 4),
        f"known has type {known.dtype} and shape {tuple(known.shape)}: give bool [H, W], [C, H, W] or "
        "[count, C, H, W].",
    )
    try:
        given, kept = given.cpu().expand(count, *shape), known.cpu().expand(count, *shape)
    except RuntimeError:
        raise ValueError(
            f"given {tuple(given.shape)} and known {tuple(known.shape)} do not fit {count} images of "
            f"[C, H, W] = {list(shape)}."
        ) from None
    values = given[kept]
    if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < levels:
        raise ValueError(
            f"known values run from {int(values.min())} to {int(values.max())}: the model knows 0 … {levels - 1}."
        )
    canvas[kept] = values.to(canvas)
    return canvas, kept


def _come_first(kept: Tensor, order: Tensor) -> bool:
    """Whether, in every image, no known value comes after one that is still to be drawn."""
    last_known = torch.where(kept, order, -1).flatten(1).amax(1)
    first_drawn = torch.where(kept, order.max() + 1, order).flatten(1).amin(1)
    return bool((last_known < first_drawn).all())


# A batch of images to draw, and all that decides what they become: the model; the images [N, C, H, W], 0 but for known
# values; which values are known; labels [N]; numbers [N, C, H, W]; from probabilities and numbers to levels; the bar;
# and whom to tell about the images so far and the values that are settled, or None.
_Job = namedtuple("_Job", "model x known label uniform draw bar report")


def chosen_method(model: AutoregressiveModel, name: str, shape: tuple[int, int, int]) -> Callable[[_Job], Tensor]:
    """The function that draws a job's images. All have the same result."""
    rank = model.order(shape)
    require(
        name != "cropped" or not (rank.amax((0, 2))[:-1] > rank.amin((0, 2))[1:]).any(),
        f"{_name(model)} draws pixels below before all those above, so no rows can be cropped: give 'auto'.",
    )
    obstacle = why_not_cached(model) if name in ("auto", "cached") else None
    if name == "auto":
        name = "cached" if obstacle is None else "fixed-point"
    require(
        name != "cached" or obstacle is None,
        f"{obstacle}: give method='fixed-point', which is fast for any model, or 'auto'.",
    )
    cropped = partial(_naive, cropped=True)
    return {"naive": _naive, "cropped": cropped, "cached": _cached, "fixed-point": _fixed_point}[name]


def why_not_cached(model: AutoregressiveModel) -> str | None:
    """What speaks against drawing with the model's stepper, which knows only what the class defines."""
    name = _name(model)
    if "stepper" not in vars(type(model)):  # an inherited one would step through the parent's model
        return f"{name} defines no stepper, so nothing can be cached"
    if any(part._forward_hooks or part._forward_pre_hooks or _has_own_method(part) for part in model.modules()):
        return f"a part of this {name} has a hook or a forward of its own, which a stepper would pass by"
    if structure(model) != model.built_of:
        return f"parts of this {name} were replaced, which its stepper does not know of"
    return None


def _has_own_method(part: nn.Module) -> bool:
    """Whether somebody has put another function in the place of one of the class's."""
    return any(callable(value) and callable(getattr(type(part), name, None)) for name, value in vars(part).items())


def _name(model: AutoregressiveModel) -> str:
    return type(model.module if isinstance(model, OwnModule) else model).__name__


def _naive(job: _Job, cropped: bool = False) -> Tensor:
    """One forward pass per group of values that are drawn together."""
    x, order = job.x, job.model.order(job.x.shape[1:])
    to_draw = (torch.ones(x.shape[1:], dtype=torch.bool) if job.known is None else ~job.known.all(0)).tolist()
    for rows, columns, channels in _groups(order):
        job.bar.update(len(x) * len(rows))
        if not any(to_draw[c][h][w] for h, w, c in zip(rows, columns, channels, strict=True)):
            continue
        # Lists would be copied to a GPU, which waits for that; a value alone is found without them.
        alone = (slice(channels[0], channels[0] + 1), rows[0], columns[0])
        at = (slice(None), *(alone if len(rows) == 1 else (channels, rows, columns)))
        seen = x[:, :, : max(rows) + 1] if cropped else x  # a causal model does not look at the rows below
        if len(rows) == 1:
            pmf = job.model.predict(seen, job.label, at=(rows[0], columns[0], channels[0])).pmf()[:, None]
        else:
            pmf = job.model.predict(seen, job.label).pmf()[at]
        drawn = _keep(job.draw(pmf, job.uniform[at]), x[at], None if job.known is None else job.known[at])
        x[at] = drawn.to(x)
        if job.report:
            job.report(x, order <= order[channels[0], rows[0], columns[0]])
    return x


def _cached(job: _Job) -> Tensor:
    """One step per front of values: each layer computes what is new and finds the rest in its cache."""
    wave = job.model.fronts(len(job.x), job.x.shape[1:], like=next(job.model.parameters()))
    step = job.model.stepper(wave, job.label)
    x, uniform = wave.by_front(job.x), wave.by_front(job.uniform)
    known, finished = repeat(None), repeat(False)
    if job.known is not None:
        known = wave.pieces(wave.by_front(job.known))
        finished = [
            bool(kept.all()) for kept in wave.pieces(wave.by_front(job.known.cpu()))
        ]  # a GPU would have to stop
    settled = torch.zeros_like(x, dtype=torch.bool)
    read = _read_known_rows(job, step, wave, x)
    settled[:, :read] = True
    job.bar.update(read * wave.channels * wave.count)
    fronts = zip(wave, wave.pieces(x), wave.pieces(uniform), known, finished, strict=False)
    for front, now, numbers, kept, nothing_to_draw in islice(fronts, read * wave.channels, None):
        expected = step.predict(front)  # also where all is known: later values look at the layers' features there
        if nothing_to_draw:
            levels = now.long()
        else:
            levels = _keep(job.draw(expected.pmf(), numbers), now, kept)
            now.copy_(levels)
        step.put(front, levels)
        job.bar.update(front.size)
        if job.report and not nothing_to_draw:
            settled[front.channel, front.pixels] = True
            job.report(wave.by_image(x), wave.by_image(settled))
    return wave.by_image(x)


def _read_known_rows(job: _Job, step: Stepper, wave: Fronts, x: Tensor) -> int:
    """Lets the model read rows at the top that are known in all images, each at once; says how many pixels it read."""
    read = 0
    if job.known is None or not isinstance(wave, Wavefront) or wave.lag != wave.width:
        return read
    for complete in job.known.cpu().all(3).all(1).all(0).tolist():  # a front is a pixel here, so a row is a band
        if not complete:
            break
        (row,) = wave.bands(read - 1, read + wave.width - 1)
        if not step.read(row, x[:, row.pixels.start : row.pixels.start + wave.width].long()):
            break
        read += wave.width
    return read


def _fixed_point(job: _Job) -> Tensor:
    """Redraws all values at once, with the same numbers, until the images stay as they are.

    A value is right as soon as all earlier ones are. So each pass settles at least one more rank of the
    order, mostly many more, and an image that maps to itself is the one that drawing in order gives.
    Images that have stopped and rows that can change no more are left out, until a last pass over all.
    """
    x = job.x
    order = job.model.order(x.shape[1:]).to(x.device)
    every = torch.arange(len(x), device=x.device)
    passes = 2 * len(order.unique()) + 2
    images, top = every, 0  # which images to redraw, and from which row on
    for _ in range(passes):
        label = None if job.label is None else job.label[images]
        pmf = _predicted(job, x[images], label, top)
        # Image by image: the cumulative distributions of all would fill the cache many times.
        drawn = torch.stack([job.draw(*one) for one in zip(pmf, job.uniform[images, :, top:], strict=True)])
        now = x[images, :, top:]
        drawn = _keep(drawn, now, None if job.known is None else job.known[images, :, top:])
        moved = drawn != now
        x[images, :, top:] = drawn.to(x)
        moving = moved.flatten(1).any(1)
        if moving.any():
            job.bar.update((len(images) - int(moving.sum())) * x[0].numel())
            images = images[moving]
            first = order[:, top:][moved.any(0)].min()  # whatever comes before it has settled
            top = int((order >= first).any(0).any(1).nonzero()[0])
            if job.report:
                job.report(x, (order < first) | ~torch.isin(every, images).view(-1, 1, 1, 1))
        elif images is every and top == 0:
            job.bar.update(x.numel() - job.bar.n)
            if job.report:
                job.report(x, torch.ones_like(x, dtype=torch.bool))
            return x
        else:
            images, top = every, 0
    raise CausalityError(
        f"images still change after {passes} passes, twice as many as there are values: the model is not causal. "
        "check_causal(model) says where."
    )


def _predicted(job: _Job, x: Tensor, label: Tensor | None, top: int) -> Tensor:
    """The probabilities of some of a job's images, from a row on."""
    try:
        return job.model.predict(x, label, at=(slice(top, None), slice(None), slice(None))).pmf()
    except (RuntimeError, ValueError) as error:
        if len(x) == len(job.x) or not isinstance(job.model, OwnModule):
            raise
        raise ValueError(
            f"{_name(job.model)} took {len(job.x)} images and fails on the {len(x)} of them that still change "
            f"({error}): a module that holds something for each image is drawn by method='naive'."
        ) from error


def _keep(drawn: Tensor, x: Tensor, known: Tensor | None) -> Tensor:
    """The drawn levels, int64, but for values that are known."""
    drawn = drawn.to(x.device)
    return drawn if known is None else torch.where(known, x, drawn)


def _groups(order: Tensor) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """The rows, columns and channels of values that are drawn together, group after group."""
    ranks, at = order.flatten().sort(stable=True)
    for group in at.split(ranks.unique_consecutive(return_counts=True)[1].tolist()):
        channels, rows, columns = torch.unravel_index(group, order.shape)
        yield rows.tolist(), columns.tolist(), channels.tolist()
