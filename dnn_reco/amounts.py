"""Numbers, times and sizes in words."""

from __future__ import annotations

_MINUTE, _HOUR = 60, 3600  # [s]


def time_in_words(seconds: float) -> str:
    """A time for people, such as "3 h 20 min": two units, the second one rounded."""
    if seconds < 1:
        return "< 1 s"
    if round(seconds) < 10 * _MINUTE:
        return _in_units(round(seconds), _MINUTE, "min", "s")
    minutes = round(seconds / _MINUTE)
    if minutes < 24 * 60:
        return _in_units(minutes, 60, "h", "min")
    return _in_units(round(seconds / _HOUR), 24, "d", "h")


def _in_units(number: int, factor: int, large: str, small: str) -> str:
    """A number of small units, of which a large one has `factor`, as some of both."""
    parts = ((number // factor, large), (number % factor, small))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def short_time_in_words(seconds: float) -> str:
    """A time that may be much less than a second, for people."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    milliseconds = 1000 * seconds
    return f"{milliseconds:.{0 if milliseconds >= 100 else 1 if milliseconds >= 10 else 2}f} ms"


def size_in_words(size: float) -> str:
    """A number of bytes for people."""
    if size >= 1e9:
        return f"{size / 1e9:,.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 100e6 else f"{size / 1e6:.1f} MB"


def plural(number: int, noun: str) -> str:
    """A number of things: "1 file", "1,200 files"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
