"""Where a thing lies, how large it is and how it is turned, in the words of the captions."""

import math

SIZES = ((0.08, "tiny"), (0.115, "small"), (0.165, ""), (0.21, "large"), (1.0, "huge"))  # up to this radius
ACROSS = ((0.2, "far left"), (0.42, "left"), (0.58, "middle"), (0.8, "right"), (1.0, "far right"))
DOWN = ((0.2, "very top"), (0.42, "top"), (0.58, "middle"), (0.8, "bottom"), (1.0, "very bottom"))


def bucket(value: float, table: tuple[tuple[float, str], ...]) -> str:
    return next(word for most, word in table if value <= most)


def place(x: float, y: float) -> str:
    """Where a point lies, in words: 'in the upper left', 'at the far right', 'in the middle'."""
    across, down = bucket(x, ACROSS), bucket(y, DOWN)
    if across == down == "middle":
        return "in the middle"
    if down == "middle":
        return f"at the {across}" if "far" in across else f"on the {across} side"
    if across == "middle":
        return f"at the {down}"
    side = across.removeprefix("far ")
    if "very" in down and "far" in across:
        return f"in the {'upper' if 'top' in down else 'lower'} {side} corner"
    if "very" in down or "far" in across:
        return f"at the {down} {across}"
    return f"in the {'upper' if down == 'top' else 'lower'} {side}"


def tilt(angle: float) -> str:
    """How a thing is turned, in words; empty where it is hardly turned or in between."""
    angle = (angle + math.pi) % (2 * math.pi) - math.pi
    side = "right" if angle > 0 else "left"
    turned = abs(angle)
    if turned < 0.15:
        return "upright"
    if turned < 0.3:
        return ""
    if turned < 1.15:
        return f"tilted to the {side}"
    if turned < 2.0:
        return f"lying on its {side} side"
    return "upside down" if turned > 2.6 else f"turned far to the {side}"
