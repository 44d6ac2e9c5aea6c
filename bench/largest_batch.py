"""The largest batch with which a gradient fits a device, found by compiling it."""

from collections.abc import Callable

MEMORIES_GB = (16, 40, 80)
MOST_BATCH = 1 << 16
_FIRST = 16


def largest_batch(nbytes: Callable[[int], int], limit_bytes: float) -> int:
    """The largest batch with `nbytes(batch) <= limit_bytes`, to 1 in 64; 0 if none.

    A bisection whose first probe is where the line through batch 1 and 16 meets the
    limit: memory is nearly a straight line of the batch, and compiling takes seconds.
    """
    if nbytes(1) > limit_bytes:
        return 0
    slope = (nbytes(_FIRST) - nbytes(1)) / (_FIRST - 1)
    meets = 1 + (limit_bytes - nbytes(1)) / slope if slope > 0 else MOST_BATCH
    probe = max(2, min(MOST_BATCH, int(meets)))
    step = max(1, probe // 64)
    fits, above = 1, MOST_BATCH + 1
    while above - fits > max(1, fits // 64):
        if nbytes(probe) <= limit_bytes:
            fits, probe = probe, probe + step
        else:
            above, probe = probe, probe - step
        step *= 2
        if not fits < probe < above:
            probe = (fits + above) // 2
    return fits
