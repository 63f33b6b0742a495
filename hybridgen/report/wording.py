"""Figures as people read them."""


def duration(seconds: float) -> str:
    """``"42 s"``, ``"12 min"``, ``"3 h 05 min"`` or ``"2 d 4 h"``."""
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def count(number: int) -> str:
    """``"950"``, ``"12.3 k"`` or ``"4.65 M"``."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return str(number)
