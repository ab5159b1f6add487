"""A few sizes instead of many: each size of a batch is compiled once."""

from collections.abc import Sequence


def ladder(least: int, most: int) -> tuple[int, ...]:
    """Sizes from `least` upwards, each double the one before, the last one `most`.

    Raises:
        ValueError: least < 1 or most < least.
    """
    if not 1 <= least <= most:
        raise ValueError(f"a ladder needs 1 <= least <= most, got least {least} and most {most}")
    sizes = [least]
    while sizes[-1] * 2 < most:
        sizes.append(sizes[-1] * 2)
    return tuple(sizes) if sizes[-1] == most else (*sizes, most)


def choose(size: int, sizes: Sequence[int]) -> int:
    """The smallest of `sizes` that holds `size`.

    Raises:
        ValueError: none does.
    """
    fitting = [s for s in sizes if s >= size]
    if not fitting:
        raise ValueError(f"size {size} is larger than every bucket {tuple(sizes)}")
    return min(fitting)
