"""The largest batch with which a gradient fits a device, found by compiling it."""

from collections.abc import Callable

MEMORIES_GB = (16, 40, 80)
MOST_BATCH = 1 << 16
_MOST_GUESSES = 8


def largest_batch(
    nbytes: Callable[[int], int], limit_bytes: float, known: tuple[int, int]
) -> int:
    """The largest batch with `nbytes(batch) <= limit_bytes`, to 1 in 64; 0 if none.

    A probe may take minutes to compile, and memory is nearly a straight line of the
    batch: the next one is where the line through the last two meets the limit, first
    those of `known`. What guesses do not enclose is bisected.
    """
    probed = [(batch, nbytes(batch)) for batch in known]
    while True:
        fits = max((b for b, n in probed if n <= limit_bytes), default=0)
        above = min((b for b, n in probed if n > limit_bytes), default=MOST_BATCH + 1)
        # Both ends are probed: what fits, and what is this much larger.
        tolerance = max(1, fits // 64)
        if above - fits <= tolerance:
            return fits
        guess = _meets(limit_bytes, *probed[-2:])
        if guess is None or len(probed) > _MOST_GUESSES:
            guess = (fits + above) // 2
        probe = min(max(guess, fits + tolerance), above - tolerance)
        probed.append((probe, nbytes(probe)))


def _meets(
    limit_bytes: float, first: tuple[int, int], second: tuple[int, int]
) -> int | None:
    """The batch where the line through two has so many bytes; None if it falls."""
    slope = (second[1] - first[1]) / (second[0] - first[0])
    if slope <= 0:
        return None
    return int(second[0] + (limit_bytes - second[1]) / slope)
