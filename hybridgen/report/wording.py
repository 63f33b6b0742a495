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
