"""Numbers in words, the same in tables, in reports and on the command line."""

from __future__ import annotations

from collections.abc import Sequence

MARGIN = 0.01
"""Quality is called unchanged if the whole 95 % interval of the relative difference is within this."""
FASTER = 1.05
"""A model is called faster from this ratio of measured times on."""


def human(number: float) -> str:
    """A number with a unit prefix: 1234567 is 1.23M."""
    for unit in ("", "k", "M", "G"):
        if abs(number) < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}T"


def megabytes(count: float) -> str:
    """Bytes in MB."""
    return f"{count / 1e6:.2f} MB"


def labelled(name: str, budget: float | None) -> str:
    """A model at a budget."""
    return name if budget is None else f"{name} at a budget of {budget:g}"


def within(value: float, ends: Sequence[float]) -> str:
    """A figure and its 95 % interval."""
    return "{:.4f} [{:.4f}, {:.4f}]".format(value, *ends)


def ahead_by(mean: float, low: float, high: float) -> str:
    """By how much one figure is above another, and the 95 % interval of that."""
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def percent(mean: float, low: float, high: float) -> str:
    """A relative loss and its 95 % interval as a difference: a loss of .02 is -2.0 %."""
    return f"{-100 * mean:+.1f} % [{-100 * high:+.1f}, {-100 * low:+.1f}]"


def change(mean: float, low: float, high: float, users: int, other: str = "the full model") -> str:
    """What a relative loss and its 95 % interval say of quality; it is unchanged only if the whole interval is within `MARGIN`.

    Args:
        mean: The loss; negative is a gain.
        low: Lower end of its interval.
        high: Upper end.
        users: How many users it was measured on.
        other: The model that it is compared with.
    """
    span = f"difference {-100 * high:+.1f} % .. {-100 * low:+.1f} %"
    if low >= -MARGIN and high <= MARGIN:
        return f"unchanged within {100 * MARGIN:g} % ({span})"
    if low <= 0 <= high:
        return f"could not be told apart from that of {other} ({span}; {users:,} users are too few)"
    return f"{100 * abs(mean):.1f} % {'better' if mean < 0 else 'lower'} ({span})"


def cheaper(flops: float, speed: float, other: str = "") -> str:
    """How much cheaper a model is, in words; in FLOPs alone if it is not faster as well.

    Args:
        flops: FLOPs of the other model over those of this one.
        speed: Median time of one user's request of the other model over that of this one.
        other: Name of the other model, if it has to be said.
    """
    than = f" than {other}" if other else ""
    if flops < 1:
        return f"{1 / flops:.1f}x dearer in FLOPs{than}, {speed:.1f}x as fast for one user"
    if speed < FASTER:
        return f"{flops:.1f}x cheaper in FLOPs{than}, not in time ({speed:.2f}x as fast for one user)"
    return f"{flops:.1f}x cheaper{than} (FLOPs; {speed:.1f}x as fast for one user)"
