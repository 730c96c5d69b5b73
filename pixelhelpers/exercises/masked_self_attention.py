"""Checks of notebook 13: which places a query may see, one step with a cache, what a layer stores."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .verdict import Mistake, ask, exercise, of_shape


@exercise
def check_allowed_places(answer: Callable[[int, int], Tensor]) -> str:
    """Checks the mask of causal attention with a start token.

    Arguments:
        answer: takes height and width; returns bool `[H * W, H * W + 1]`: whether a pixel's query may see a place,
            where place 0 is the start token and place k the k-th pixel in raster order, counted from 1.

    Example:
        >>> check_allowed_places(lambda height, width: torch.ones(height * width, height * width + 1).tril(1).bool())
        ✗ Not yet. A query sees its own pixel: pixel i, counted from 0, stands at place i + 1.
    """
    for height, width in ((3, 4), (4, 2), (1, 5)):
        pixels = height * width
        result = ask(answer, height, width)
        expected = (pixels, pixels + 1)
        if not isinstance(result, Tensor) or result.shape != expected:
            if not isinstance(result, Tensor):
                raise Mistake(f"You return {type(result).__name__}: return a torch tensor of shape {expected}.")
            given = tuple(result.shape)
            hint = {
                (pixels, pixels): "the start token is a place, too",
                (pixels + 1, pixels): "queries are the rows",
                (pixels + 1, pixels + 1): "the start token is a place, but it asks nothing",
            }.get(given, "a row for each pixel, a column for each place")
            raise Mistake(f"For {height} × {width} pixels you return {given}: return {expected}, {hint}.")
        if result.dtype != torch.bool:
            if result.is_floating_point() and result.isneginf().any():
                raise Mistake(
                    "This mask is for adding to the products, 0 and -inf, and would work there. Here bool is asked "
                    "for: True where a place may be seen."
                )
            raise Mistake(
                f"The mask is {result.dtype}: return bool. `F.scaled_dot_product_attention` adds other numbers to the "
                "products instead of shutting anything."
            )
        if torch.equal(result, torch.ones(expected).tril().bool()):
            continue
        raise Mistake(_wrong_mask(result, height, width))
    return (
        "The start token and every earlier pixel, for each query: nobody is left without a place, nobody sees itself."
    )


def _wrong_mask(result: Tensor, height: int, width: int) -> str:
    pixels = height * width
    every = torch.ones(pixels, pixels + 1, dtype=torch.bool)
    row, column = (x.flatten() for x in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    above, level = row < row[:, None], row == row[:, None]
    left, upright = column < column[:, None], column == column[:, None]

    def with_start(earlier: Tensor) -> Tensor:
        return torch.cat((every[:, :1], earlier), 1)

    earlier = every[:, 1:].tril(-1)
    for wrong, words in (
        (every, "Every query sees every place, the future too."),
        (every.tril(1), "A query sees its own pixel: pixel i, counted from 0, stands at place i + 1."),
        (
            every.tril(-1),
            "Each query misses the pixel right before it, and the first one sees no place at all: pixel i - 1 stands "
            "at place i.",
        ),
        (
            torch.cat((~every[:, :1], every[:, 1:].tril()), 1),
            "The start token is shut, and a query sees its own pixel: pixel i, counted from 0, stands at place i + 1.",
        ),
        (
            every.triu(1),
            "The mask is upside down: True means *may be seen* for `F.scaled_dot_product_attention` (in "
            "`nn.MultiheadAttention` it means the opposite).",
        ),
        (every.triu(), "This is the upper triangle: queries see the future. Take the lower one."),
        (every.triu(2), "This is the upper triangle: queries see the future. Take the lower one."),
        (
            torch.cat((~every[:, :1], earlier), 1),
            "The start token is shut: the first query sees no place at all, and its softmax is NaN.",
        ),
        (torch.cat((earlier, every[:, :1]), 1), "The start token stands at the end: it is place 0, before all pixels."),
        (
            with_start(left | upright & above),
            "This is the order of columns: the one to the left is drawn first. Raster order goes row by row.",
        ),
        (with_start(above), "Only the rows above are open: on its own row a query may see what lies to its left."),
        (with_start(level & left), "Only the own row is open: the rows above are earlier, too."),
        (
            with_start((above | level) & (left | upright) & ~(level & upright)),
            "Above, the columns to the right are missing: the rows above are earlier in full width.",
        ),
        (with_start(every[:, 1:] & False), "Only the start token is open: earlier pixels are to be seen as well."),
    ):
        if torch.equal(result, wrong):
            return words
    query, place = (result != every.tril()).nonzero()[0].tolist()
    what = "the start token" if place == 0 else f"pixel {place - 1}"
    verb = "must be" if place <= query else "must not be"
    return f"For {height} × {width} pixels: {what} {verb} open to the query of pixel {query} (counted from 0)."


@exercise
def check_attention_step(answer: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> str:
    """Checks one step of attention with a cache of keys and values.

    Arguments:
        answer: takes a pixel's query, key and value, each `[heads, d]`, and the cached keys and values
            `[heads, places, d]`; returns what the pixel gets, `[heads, d]`, and the caches for the next pixel,
            `[heads, places + 1, d]`.

    Example:
        >>> def step(query, key, value, keys, values):
        ...     keys, values = (torch.cat((old, new[:, None]), 1) for old, new in ((keys, key), (values, value)))
        ...     weights = (keys @ query[..., None] / query.shape[-1] ** 0.5).softmax(1)
        ...     return (weights * values).sum(1), keys, values
        >>> check_attention_step(step)
        ✗ Not yet. The pixel sees its own key and value: attend first, then put them into the cache.
    """
    generator = torch.Generator().manual_seed(0)
    heads, size, pixels = 2, 5, 6
    query, key, value = torch.randn(3, pixels, heads, size, generator=generator, dtype=torch.float64)
    keys, values = torch.randn(2, heads, 1, size, generator=generator, dtype=torch.float64)  # the start token
    cache = keys.clone(), values.clone()
    early = []  # with one or two places most mistakes look alike or do not show: they are named better later
    for pixel in range(pixels):
        new = query[pixel].clone(), key[pixel].clone(), value[pixel].clone()
        result = ask(answer, *new, *(part.clone() for part in cache))
        if not isinstance(result, tuple | list) or len(result) != 3:
            raise Mistake(f"You return {type(result).__name__}: return three, the result, the keys and the values.")
        got, *cache = result
        if isinstance(got, Tensor) and got.dtype != query.dtype:
            raise Mistake(f"The result is {got.dtype}: make it like the query, {query.dtype}.")
        if not all(isinstance(part, Tensor) for part in result) or got.shape != (heads, size):
            given = tuple(got.shape) if isinstance(got, Tensor) else type(got).__name__
            raise Mistake(f"The result is {given}: return one vector per head, {(heads, size)}.")
        right = _attended(query[pixel], keys, values)
        if pixel > 1 and not torch.allclose(got, right, rtol=0, atol=1e-9):
            raise Mistake(_wrong_step(got, query[pixel], key[pixel], value[pixel], keys, values))
        if pixel < 2:
            early.append((got, right))
        appended = [torch.cat((old, part[:, None]), 1) for old, part in ((keys, key[pixel]), (values, value[pixel]))]
        _check_cache(cache, appended)
        keys, values = appended
        cache = keys.clone(), values.clone()
    first, second = (torch.allclose(*both, rtol=0, atol=1e-9) for both in early)
    if not first:
        raise Mistake("The first pixel has one place in the cache, the start token: it must get that value.")
    if not second:
        raise Mistake("From the third pixel on all is right, but not for the second, with two places in the cache.")
    return "First look, then remember: six steps give what the whole layer gives."


def _attended(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    weights = (torch.einsum("hd,hpd->hp", query, keys) / math.sqrt(query.shape[-1])).softmax(-1)
    return torch.einsum("hp,hpd->hd", weights, values)


def _check_cache(cache: list[Tensor], appended: list[Tensor]) -> None:
    for name, part, right in zip(("keys", "values"), cache, appended, strict=True):
        if part.shape != right.shape:
            grown = "it did not grow" if part.shape == right[:, :-1].shape else "one more place than before is right"
            raise Mistake(f"The cache of {name} is {tuple(part.shape)}, not {tuple(right.shape)}: {grown}.")
    if all(torch.equal(part, right) for part, right in zip(cache, appended, strict=True)):
        return
    newest = [right[:, -1] for right in appended]
    if any(torch.equal(part[:, -1], other) for part, other in zip(cache, newest[::-1], strict=True)):
        raise Mistake("Key and value are swapped: the pixel's key belongs to the keys, its value to the values.")
    moved_on = [torch.cat((right[:, -1:], right[:, :-1]), 1) for right in appended]
    if all(torch.equal(part, right) for part, right in zip(cache, moved_on, strict=True)):
        raise Mistake(
            "The newest place stands first. A softmax does not mind the order, but `forward` has place k at k: append."
        )
    raise Mistake("What is in the caches is not what was there and, behind it, the pixel's own key and value.")


def _wrong_step(got: Tensor, query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor) -> str:
    size, places = query.shape[-1], keys.shape[1]
    products = torch.einsum("hd,hpd->hp", query, keys)
    weights = (products / math.sqrt(size)).softmax(-1)

    def mix(weights: Tensor, values: Tensor = values) -> Tensor:
        return torch.einsum("hp,hpd->hd", weights, values)

    own = torch.cat((keys, key[:, None]), 1), torch.cat((values, value[:, None]), 1)
    for wrong, words in (
        (
            values[:, 0],
            "Only place 0, the start token, is seen. With one query, `is_causal=True` takes it for the first one: "
            "leave it out, the cache holds nothing later.",
        ),
        (
            _attended(query, *own),
            "The pixel sees its own key and value: attend first, then put them into the cache.",
        ),
        (
            _attended(key, keys, values),
            "The pixel's key is held against the keys: its query is what looks.",
        ),
        (mix(products.softmax(-1)), "The products are not divided by √d, the root of a head's number of features."),
        (mix((products / size).softmax(-1)), "The products are divided by d: divide by its root, √d."),
        (
            mix((products / math.sqrt(size * len(query))).softmax(-1)),
            "d is the number of features of *one head*, not of all heads together.",
        ),
        (
            mix((products / math.sqrt(len(query))).softmax(-1)),
            "The products are divided by the root of the number of heads: it is the root of a head's features, √d.",
        ),
        (mix((products * math.sqrt(size)).softmax(-1)), "The products are multiplied with √d: divide by it."),
        (
            mix((products == products.amax(1, keepdim=True)).to(products)),
            "Only the place with the largest product is heard: the softmax lets all of them speak.",
        ),
        (
            mix((products / math.sqrt(size)).sigmoid()),
            "A sigmoid weighs each place by itself: over the places the weights must add up to 1.",
        ),
        (
            _attended(query, keys, values).mean(0).expand_as(query),
            "All heads get the same, the mean of all: each keeps its own.",
        ),
        (_attended(query.flip(0), keys, values), "The heads are in another order in the query than in the keys."),
        (
            mix((products / math.sqrt(places)).softmax(-1)),
            "The products are divided by the root of the number of places: it is the root of a head's features, √d.",
        ),
        (
            mix((products / math.sqrt(size)).softmax(0)),
            "The softmax runs over the heads: over the places the weights must add up to 1.",
        ),
        (mix(products / math.sqrt(size)), "The softmax is missing: the products themselves weigh the values."),
        (mix(torch.full_like(products, 1 / places)), "All places weigh the same: query and keys do not enter."),
        (mix(weights, keys), "The keys are added up: keys say whom to listen to, values what is said."),
        (
            mix((products.sum(0, keepdim=True).expand_as(products) / math.sqrt(size)).softmax(-1)),
            "The heads are mixed: each has weights of its own.",
        ),
        (_attended(query, keys[:, 1:], values[:, 1:]), "The start token is left out: it is a place like the others."),
        (
            _attended(query, keys[:, :-1], values[:, :-1]),
            "The newest place in the cache is left out: it is an earlier pixel, and may be seen.",
        ),
    ):
        if torch.allclose(got, wrong, rtol=0, atol=1e-9):
            return words
    return (
        f"With {places} places in the cache the result is not that of the layer. Print the weights: do they add up to "
        "1 over the places, and which of them is largest?"
    )


@exercise
def check_stored_bytes(answer: Callable[[int, int, int], float]) -> str:
    """Checks the memory that hand-written attention takes for its weights.

    Arguments:
        answer: takes an image's side in pixels, heads, and images; returns the bytes of all weights in float32.

    Example:
        >>> check_stored_bytes(lambda side, heads, images: side**4 * heads * images)
        ✗ Not yet. These are the weights, not their bytes: a float32 has 4.
    """
    for side, heads, images in ((28, 6, 5), (5, 7, 11), (256, 1, 1)):
        places = side * side
        right = 4 * places * places * heads * images
        result = ask(answer, side, heads, images)
        if isinstance(result, Tensor) and result.numel() == 1:
            result = result.item()
        if not isinstance(result, int | float):
            raise Mistake(f"You return {type(result).__name__}: return one number.")
        if math.isclose(result, right, rel_tol=1e-9):
            continue
        for wrong, words in (
            (right / 4, "These are the weights, not their bytes: a float32 has 4."),
            (
                2 * right,
                "Twice too many. A float32 has 4 bytes; 8 are a float64's. Or do you keep products *and* weights? Only "
                "the weights are asked for.",
            ),
            (
                right / places,
                "Each pixel has a weight for each place, not just one: the number of pixels enters twice.",
            ),
            (right / side, "A pixel looks at pixels, not at rows: the side enters four times."),
            (
                right / places / 4,
                "Each pixel has a weight for each place: the number of pixels enters twice (and a "
                "float32 has 4 bytes).",
            ),
            (right / heads, "Each head has weights of its own."),
            (right / images, "Each image has weights of its own: that is the point of attention."),
            (right / heads / images, "Each head and each image has weights of its own."),
            (right / 2, "The shut half is stored, too: as zeros."),
            (right / 2 * (places - 1) / places, "The shut half is stored, too: as zeros, and so is the diagonal."),
            (right * ((places + 1) / places) ** 2, "The start token adds no place, and it asks nothing."),
            (right * heads, "Each head has weights of its own, once: heads enter once."),
            (right / 2 * (places + 1) / places, "The shut half is stored, too: as zeros."),
            (
                right / places * (places + 1),
                "The start token does not add a place: keys move on by one, and the last pixel's falls off.",
            ),
            (8 * right, "A float32 has 32 bits, which are 4 bytes."),
            (right / 1024, "This is in kilobytes: give bytes."),
            (right / 2**20, "This is in megabytes: give bytes."),
            (right / 10**6, "This is in megabytes: give bytes."),
            (right / 2**30, "This is in gigabytes: give bytes."),
            (right / 10**9, "This is in gigabytes: give bytes."),
        ):
            if math.isclose(result, wrong, rel_tol=1e-9):
                raise Mistake(words)
        raise Mistake(
            f"For side {side}, heads {heads}, images {images} you return {result:,.6g}. How many queries are there, "
            "how many places has each, and how many bytes has a number?"
        )
    return "The fourth power of the side: 79 MB for 16 images of side 28 and two heads, 17 GB for one of side 256."


@exercise
def check_sparse_mask(answer: Callable[[int], Tensor]) -> str:
    """Checks a mask with few open places through which two layers hear of everything earlier.

    Arguments:
        answer: takes the side of a square image; returns bool `[pixels, pixels]`: whether a pixel's query may see a
            place, its own or an earlier one, for side 28 at most 60 places a query.

    Example:
        >>> check_sparse_mask(lambda side: torch.ones(side**2, side**2).tril().bool())
        ✗ Not yet. Pixel 60 may see 61 places: 60 are allowed.
    """
    side, most = 28, 60
    pixels = side * side
    mask = of_shape(ask(answer, side), (pixels, pixels), "a row for each query, a column for each place")
    if mask.dtype != torch.bool:
        raise Mistake(f"The mask is {mask.dtype}: return bool.")
    earlier = torch.ones(pixels, pixels).tril().bool()
    later = (mask & ~earlier).nonzero()
    if len(later):
        if not (mask.T & ~earlier).any():
            raise Mistake("Rows and columns have changed places: a row is a query, and looks back.")
        raise Mistake(f"Pixel {int(later[0, 0])} may see place {int(later[0, 1])}, which is later.")
    crowded = (mask.sum(1) > most).nonzero()
    if len(crowded):
        query = int(crowded[0])
        raise Mistake(f"Pixel {query} may see {int(mask[query].sum())} places: {most} are allowed.")
    blind = (~mask.any(1)).nonzero()
    if len(blind):
        raise Mistake(f"Pixel {int(blind[0])} may see no place at all: its softmax is NaN.")
    heard = mask.float() @ mask.float() > 0
    missed = (earlier & ~heard).nonzero()
    if len(missed):
        query, place = missed[len(missed) // 2].tolist()
        (row, column), (above, aside) = divmod(query, side), divmod(place, side)
        beyond = (earlier & ~heard).nonzero()
        right = (beyond[:, 1] % side > beyond[:, 0] % side).all() and (
            beyond[:, 1] // side < beyond[:, 0] // side
        ).all()
        raise Mistake(
            f"After two layers, {len(missed) / int(earlier.sum()):.0%} of all pairs are not connected: the pixel in "
            f"row {row}, column {column} has not heard of row {above}, column {aside}."
            + (" All that is missed lies above and to the right: do you remember a hole like that?" if right else "")
        )
    return f"{int(mask.sum(1).max())} places at most for each of 784 queries, and two layers hear everything."
