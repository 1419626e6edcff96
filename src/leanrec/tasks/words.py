"""Numbers in words, the same in tables, reports and sentences."""

from __future__ import annotations


def human(number: float) -> str:
    """A number with a unit prefix: 1234567 is 1.23M."""
    for unit in ("", "k", "M", "G"):
        if abs(number) < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}T"


def size(count: float) -> str:
    """Bytes in MB."""
    return f"{count / 1e6:.2f} MB"


def labelled(name: str, budget: float | None) -> str:
    """A model at a budget."""
    return name if budget is None else f"{name} at a budget of {budget:g}"


def change(mean: float, low: float, high: float) -> str:
    """What a relative loss and its 95 % interval mean for quality."""
    word = "unchanged" if low <= 0 <= high else f"{100 * abs(mean):.1f} % {'better' if mean < 0 else 'lower'}"
    return f"{word} (difference {-100 * high:+.1f} % .. {-100 * low:+.1f} %)"
