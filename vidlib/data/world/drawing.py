"""Drawing for the embedded world: coloured shapes on textured grounds, from signed distances, with numpy alone.

Coordinates run from 0 (left, top) to 1 (right, bottom) whatever the size in pixels. Only additions, products, square
roots and comparisons touch the pixels, so that two machines draw the same bytes.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

COLOURS = {
    "red": (0.88, 0.12, 0.12),
    "orange": (0.98, 0.55, 0.08),
    "yellow": (0.98, 0.90, 0.15),
    "green": (0.13, 0.65, 0.20),
    "cyan": (0.15, 0.82, 0.86),
    "blue": (0.15, 0.28, 0.90),
    "purple": (0.56, 0.20, 0.74),
    "pink": (0.98, 0.52, 0.72),
    "white": (0.97, 0.97, 0.97),
    "black": (0.05, 0.05, 0.05),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "bar", "moon")
GROUND_COLOURS = {
    "dark grey": (0.24, 0.24, 0.25),
    "dark blue": (0.14, 0.19, 0.36),
    "dark green": (0.12, 0.28, 0.20),
    "dark brown": (0.33, 0.22, 0.15),
    "light grey": (0.78, 0.78, 0.77),
    "light blue": (0.70, 0.80, 0.90),
    "light green": (0.74, 0.87, 0.72),
    "light brown": (0.85, 0.76, 0.62),
}
PATTERNS = ("plain", "striped", "checked", "dotted", "shaded", "floor")
_MARK = {
    "ring": 0.78,
    "cross": 0.66,
    "moon": 0.66,
    "bar": 0.70,
    "star": 0.42,
    "triangle": 0.30,
    "square": 0.5,
    "circle": 0.55,
}


@dataclass(frozen=True)
class Thing:
    """One drawn object. ``size`` is the radius of the circle round it; ``angle`` in radians, clockwise."""

    shape: str
    colour: tuple[float, float, float]
    x: float = 0.5
    y: float = 0.5
    size: float = 0.14
    angle: float = 0.0
    alpha: float = 1.0

    def moved(self, **changes: float) -> "Thing":
        return replace(self, **changes)


@dataclass(frozen=True)
class View:
    """What a camera sees of the world: the point in the middle of the picture, and how much larger things look."""

    x: float = 0.5
    y: float = 0.5
    zoom: float = 1.0

    def of(self, thing: Thing) -> Thing:
        """A thing of the world where it stands in the picture."""
        x, y = ((at - middle) * self.zoom + 0.5 for at, middle in ((thing.x, self.x), (thing.y, self.y)))
        return replace(thing, x=x, y=y, size=thing.size * self.zoom)


@dataclass(frozen=True)
class Ground:
    """A background: pattern, two colours close to each other, direction (0 across, 1 down, 2 aslant), period."""

    pattern: str
    name: str
    first: tuple[float, float, float]
    second: tuple[float, float, float]
    direction: int
    period: float
    offset: float


def _corners(count: int) -> list[tuple[float, float]]:
    """Outward normals of a regular polygon with a corner at the top."""
    step = 2 * math.pi / count
    return [(math.sin((i + 0.5) * step), -math.cos((i + 0.5) * step)) for i in range(count)]


_TRIANGLE, _STAR = _corners(3), [(math.sin(i * 2 * math.pi / 5), math.cos(i * 2 * math.pi / 5)) for i in range(5)]


def _distance(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance (negative inside) to a shape of radius 1 that stands upright; u to the right, v down."""
    if shape == "circle":
        return np.sqrt(u * u + v * v) - 0.92
    if shape == "ring":
        return np.abs(np.sqrt(u * u + v * v) - 0.76) - 0.22
    if shape == "moon":
        return np.maximum(np.sqrt(u * u + v * v) - 1.0, 0.86 - np.sqrt(u * u + (v - 0.55) * (v - 0.55)))
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) - 0.76
    if shape == "bar":
        return np.maximum(np.abs(u) - 0.36, np.abs(v) - 1.0)
    if shape == "cross":
        a, b = np.abs(u), np.abs(v)
        return np.maximum(np.minimum(a, b) - 0.32, np.maximum(a, b) - 0.96)
    if shape == "triangle":
        sides = [u * nx + v * ny - 0.5 for nx, ny in _TRIANGLE]
        return np.maximum(np.maximum(sides[0], sides[1]), sides[2]) * 0.9
    # a five-pointed star is where at least four of its five lines are passed: the second largest distance is negative
    largest = second = None
    for nx, ny in _STAR:
        side = u * nx + v * ny - 0.38
        if largest is None:
            largest, second = side, np.full_like(side, -9.0)
        else:
            second = np.maximum(second, np.minimum(largest, side))
            largest = np.maximum(largest, side)
    return second


def paint_ground(ground: Ground, pixels: int, view: View | None = None) -> np.ndarray:
    """-> float32 [pixels pixels 3] in 0..255, without a ``view`` the world from 0 to 1."""
    across = down = (np.arange(pixels, dtype=np.float32) + 0.5) / pixels
    if view:
        across, down = ((across - 0.5) / np.float32(view.zoom) + np.float32(at) for at in (view.x, view.y))
    across = np.broadcast_to(across[None, :], (pixels, pixels))
    down = np.broadcast_to(down[:, None], (pixels, pixels))
    run = (across, down, (across + down) / 2)[ground.direction] + np.float32(ground.offset)
    if ground.pattern == "striped":
        mix = (run / ground.period % 1 < 0.5).astype(np.float32)
    elif ground.pattern == "checked":
        squares = np.floor(across / ground.period + ground.offset) + np.floor(down / ground.period + ground.offset)
        mix = (squares % 2).astype(np.float32)
    elif ground.pattern == "dotted":
        du = (across / ground.period + ground.offset) % 1 - 0.5
        dv = (down / ground.period + ground.offset) % 1 - 0.5
        mix = np.clip((0.3 - np.sqrt(du * du + dv * dv)) * ground.period * pixels + 0.5, 0, 1)
    elif ground.pattern == "shaded":
        mix = np.clip(run - np.float32(ground.offset), 0, 1) if view else run - np.float32(ground.offset)
        mix = mix if ground.offset < 0.1 else 1 - mix
    elif ground.pattern == "floor":
        mix = (down > 0.66 + 0.1 * ground.offset).astype(np.float32)
    else:
        mix = np.zeros((pixels, pixels), np.float32)
    first, second = (np.asarray(c, np.float32) * 255 for c in (ground.first, ground.second))
    return (first + mix[..., None] * (second - first)).astype(np.float32)


def _blend(canvas: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> None:
    canvas += cover[..., None] * (colour - canvas)


def _window(thing: Thing, pixels: int) -> tuple[slice, slice, np.ndarray, np.ndarray, np.ndarray] | None:
    """Where a thing is painted: rows, columns, and there its own upright coordinates u, v and the signed distance to
    its edge in pixels; None where nothing of it can be seen."""
    radius = thing.size * pixels
    if thing.alpha <= 0.004 or radius < 0.3:
        return None
    cx, cy = thing.x * pixels - 0.5, thing.y * pixels - 0.5
    x0, x1 = max(0, int(cx - radius - 1)), min(pixels, int(cx + radius + 3))
    y0, y1 = max(0, int(cy - radius - 1)), min(pixels, int(cy + radius + 3))
    if x0 >= x1 or y0 >= y1:
        return None
    dx = ((np.arange(x0, x1) - cx) / radius).astype(np.float32)[None, :]
    dy = ((np.arange(y0, y1) - cy) / radius).astype(np.float32)[:, None]
    cos, sin = np.float32(math.cos(thing.angle)), np.float32(math.sin(thing.angle))
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    return slice(y0, y1), slice(x0, x1), u, v, _distance(thing.shape, u, v) * np.float32(radius)


def coverage(things: list[Thing], pixels: int) -> np.ndarray:
    """How much of each pixel ``things`` cover, from 0 to 1: float32 [pixels pixels]; one that fades covers less."""
    free = np.ones((pixels, pixels), np.float32)
    for thing in things:
        if (window := _window(thing, pixels)) is not None:
            rows, columns, _, _, distance = window
            free[rows, columns] *= 1 - np.clip(0.5 - distance, 0, 1) * np.float32(thing.alpha)
    return 1 - free


def draw(ground: np.ndarray, things: list[Thing]) -> np.ndarray:
    """Things over a painted ground, the last on top: float32 [H W 3] -> uint8 [H W 3]; the ground is left as it was.

    Each thing has a darker rim and a small mark towards its top, so that any shape shows which way it is turned.
    """
    canvas, pixels = ground.copy(), ground.shape[0]
    for thing in things:
        if (window := _window(thing, pixels)) is None:
            continue
        rows, columns, u, v, distance = window
        patch, radius = canvas[rows, columns], thing.size * pixels
        colour = np.asarray(thing.colour, np.float32) * 255
        cover = np.clip(0.5 - distance, 0, 1) * np.float32(thing.alpha)
        inner = np.clip(-0.7 - distance, 0, 1)[..., None]  # the rim is 1.2 pixels wide
        mark_at = _MARK[thing.shape]
        spot = np.sqrt(u * u + (v + mark_at) * (v + mark_at)) - 0.2
        spot = np.clip(0.5 - spot * np.float32(radius), 0, 1)[..., None]
        mark = np.float32(15 if sum(thing.colour) > 1.5 else 250)
        paint = colour * (0.55 + 0.45 * inner)
        paint += spot * (mark - paint)
        _blend(patch, cover, paint)
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8)


def vary(rng: np.random.Generator, colour: tuple[float, float, float], by: float) -> tuple[float, float, float]:
    """A colour near ``colour``: every channel moved by at most ``by``."""
    red, green, blue = (min(1.0, max(0.0, c + by * (2 * float(rng.random()) - 1))) for c in colour)
    return red, green, blue


def some_ground(rng: np.random.Generator, pattern: str = "", name: str = "") -> Ground:
    """A background drawn at random, where a pattern or colour name is given with that one."""
    pattern = pattern or PATTERNS[int(rng.integers(len(PATTERNS)))]
    name = name or list(GROUND_COLOURS)[int(rng.integers(len(GROUND_COLOURS)))]
    first = vary(rng, GROUND_COLOURS[name], 0.05)
    step = (0.10 + 0.06 * float(rng.random())) * (1 if first[1] < 0.5 else -1)
    second = tuple(min(1.0, max(0.0, c + step)) for c in first)
    return Ground(
        pattern, name, first, second, int(rng.integers(3)), 0.14 + 0.12 * float(rng.random()), 0.2 * float(rng.random())
    )


def stands_out(name: str, ground: Ground) -> bool:
    """Whether a colour can be told from both colours of a ground."""
    return min(math.dist(COLOURS[name], ground.first), math.dist(COLOURS[name], ground.second)) > 0.42


def some_colour(rng: np.random.Generator, ground: Ground, avoid: tuple[str, ...] = ()) -> str:
    """The name of a colour that stands out from the ground and is none of ``avoid``."""
    names = [name for name in COLOURS if name not in avoid and stands_out(name, ground)]
    return names[int(rng.integers(len(names)))]
