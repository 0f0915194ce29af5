"""A clip of the worlds *motion*, *scene* and *words*: things, a moving camera, flickering light, moving bystanders."""

import cmath
import math
from typing import NamedTuple

import numpy as np

from vidlib.data.world import relations
from vidlib.data.world.drawing import (
    COLOURS,
    SHAPES,
    Ground,
    Thing,
    View,
    coverage,
    draw,
    paint_ground,
    some_colour,
    some_ground,
    stands_out,
    vary,
)
from vidlib.data.world.scenes import Scene, scene_film

PIXELS = 72
FRAMES = (20, 32)  # a clip's least and most
PAN, ZOOM, SHAKE, FLICKER = 0.05, 0.10, 0.10, 0.10  # at most, either way: of the side, of the zoom, of the light
ACTING, STANDING_BY = (0.09, 0.11), (0.04, 0.06)  # radii
REACH = (0.32, 0.38)  # how far from each other actor and partner begin
SIDE = 0.14  # how far from the picture's edge the actors' middles stay, the camera's moves aside


class Shot(NamedTuple):
    """What a clip is drawn from, frame by frame: the camera, the light, bystanders, and the things that act with their
    depth; ``quantiser`` is how coarsely it is encoded, ``rate`` its frames per second."""

    ground: Ground
    views: list[View]
    light: list[float]
    behind: list[list[Thing]]
    actors: list[list[tuple[int, Thing]]]
    looks: tuple[tuple[str, str], ...]  # colour and shape of what acts, the actor first
    quantiser: int
    rate: int

    def frames(self, acting: bool = True) -> np.ndarray:
        """uint8 [T 72 72 3]; the ground alone where not ``acting``."""
        drawn = []
        for view, light, behind, actors in zip(self.views, self.light, self.behind, self.actors, strict=True):
            things = behind + [thing for _, thing in sorted(actors, key=lambda pair: pair[0])] if acting else []
            canvas = draw(paint_ground(self.ground, PIXELS, view), [view.of(thing) for thing in things])
            drawn.append(np.clip(canvas * np.float32(light) + 0.5, 0, 255).astype(np.uint8))
        return np.stack(drawn)

    def masks(self) -> np.ndarray:
        """bool [T 72 72]: the pixels that what acts covers by half or more."""
        pairs = zip(self.views, self.actors, strict=True)
        return np.stack([coverage([view.of(t) for _, t in actors], PIXELS) >= 0.5 for view, actors in pairs])

    def paths(self) -> np.ndarray:
        """float [T A 3]: x, y and depth of what acts, in the world, where no camera moves."""
        return np.array([[(thing.x, thing.y, depth) for depth, thing in actors] for actors in self.actors])


def spread(rng: np.random.Generator, by: float) -> float:
    """A number in -by..by."""
    return by * (2 * float(rng.random()) - 1)


def some_look(rng: np.random.Generator, ground: Ground, avoid: tuple[str, ...] = ()) -> tuple[str, str]:
    """A colour that stands out and a shape."""
    return some_colour(rng, ground, avoid), SHAPES[int(rng.integers(len(SHAPES)))]


def thing(rng: np.random.Generator, look: tuple[str, str], low: float, high: float) -> Thing:
    """A thing of this colour and shape, its radius between ``low`` and ``high``."""
    colour, shape = look
    size = low + (high - low) * float(rng.random())
    return Thing(shape, vary(rng, COLOURS[colour], 0.05), size=size, angle=spread(rng, 0.35))


def _camera(rng: np.random.Generator, frames: int) -> list[View]:
    """Pan, zoom and shake."""
    pan, zoom = (spread(rng, PAN), spread(rng, PAN)), (1 + spread(rng, ZOOM), 1 + spread(rng, ZOOM))
    views = []
    for i in range(frames):
        t = i / (frames - 1)
        x, y = (0.5 + by * (2 * t - 1) + spread(rng, SHAKE) for by in pan)
        views.append(View(x, y, zoom[0] + (zoom[1] - zoom[0]) * t))
    return views


def _light(rng: np.random.Generator, frames: int) -> list[float]:
    """Slow change and flicker, as a factor of each frame."""
    slow, turn = spread(rng, FLICKER), 2 * math.pi * float(rng.random())
    return [1 + slow * math.sin(turn + 3 * i / frames) + spread(rng, FLICKER / 2) for i in range(frames)]


def _bystander(rng: np.random.Generator, ground: Ground, frames: int) -> list[Thing]:
    """A small thing that drifts, swings or circles somewhere, nothing to do with what acts."""
    small = thing(rng, some_look(rng, ground), *STANDING_BY)
    x, y, turn = (float(rng.random()) for _ in range(3))
    turn, kind = 2 * math.pi * turn, int(rng.integers(3))
    reach, speed = 0.1 + 0.15 * float(rng.random()), 0.5 + float(rng.random())
    path = []
    for i in range(frames):
        t = i / (frames - 1)
        if kind == 0:
            u = (2 * t - 1) * 1.6 * reach
        elif kind == 1:
            u = reach * math.sin(2 * math.pi * speed * t)
        else:
            u = 0.6 * reach
        at = turn + (2 * math.pi * speed * t if kind == 2 else 0)
        path.append(small.moved(x=x + u * math.cos(at), y=y + u * math.sin(at)))
    return path


def staged(
    rng: np.random.Generator,
    ground: Ground,
    actors: list[list[tuple[int, Thing]]],
    looks: tuple[tuple[str, str], ...],
    bystanders: int,
) -> Shot:
    """What acts, with everything round it drawn from ``rng``."""
    frames = len(actors)
    others = [_bystander(rng, ground, frames) for _ in range(bystanders)]
    behind = [[film[i] for film in others] for i in range(frames)]
    views, light = _camera(rng, frames), _light(rng, frames)
    return Shot(ground, views, light, behind, actors, looks, int(rng.integers(16, 31)), int(rng.integers(10, 16)))


def related(names: tuple[str, ...], rng: np.random.Generator, look: tuple[str, str] | None = None) -> Shot:
    """One clip in which an actor (of ``look``, else any) has these relations with a partner, one after the other.

    Place, direction, side, distance, pace, looks, bystanders, camera and light are drawn from ``rng``.
    """
    ground, frames = some_ground(rng), int(rng.integers(FRAMES[0], FRAMES[1] + 1))
    while look and not stands_out(look[0], ground):
        ground = some_ground(rng)
    look = look or some_look(rng, ground)
    other = some_look(rng, ground, (look[0],))
    actor, partner = thing(rng, look, *ACTING), thing(rng, other, *ACTING)
    reach = REACH[0] + (REACH[1] - REACH[0]) * float(rng.random())
    contact = 0.95 * (actor.size + partner.size) / reach
    mirrored = tuple(bool(rng.integers(2)) for _ in names)
    film = relations.paths(names, relations.pace(rng, frames, len(names)), contact, mirrored)
    turn = cmath.exp(2j * math.pi * float(rng.random()))
    places = np.array([[turn * pair.actor, turn * pair.partner] for pair in film])
    places *= min(reach, (1 - 2 * SIDE) / max(np.ptp(places.real), np.ptp(places.imag)))
    for axis in (places.real, places.imag):  # anywhere in the picture, as long as the whole path is in it
        least, most = SIDE - axis.min(), 1 - SIDE - axis.max()
        axis += least + (most - least) * float(rng.random())
    actors = []
    for pair, (a, b) in zip(film, places, strict=True):
        here = [(pair.depth, actor.moved(x=float(a.real), y=float(a.imag)))]
        actors.append([*here, (0, partner.moved(x=float(b.real), y=float(b.imag)))])
    return staged(rng, ground, actors, (look, other), int(rng.integers(1, 3)))


def shown(scene: Scene, rng: np.random.Generator) -> Shot:
    """One clip of what is there, moving in its own ways; the same things round it."""
    film = scene_film(scene, rng)
    return staged(rng, film.ground, film.actors, (), int(rng.integers(2)))
