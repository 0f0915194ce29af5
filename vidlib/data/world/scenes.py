"""From a class and a random generator to the frames of one clip: the casting, the place, the pace, the bystanders."""

import math
from typing import NamedTuple

import numpy as np

from vidlib.data.world.actions import ACTIONS, Action
from vidlib.data.world.drawing import (
    COLOURS,
    PATTERNS,
    SHAPES,
    Ground,
    Thing,
    coverage,
    draw,
    paint_ground,
    some_colour,
    some_ground,
    stands_out,
    vary,
)
from vidlib.data.world.motions import Open, Pose

FRAMES, PIXELS = 24, 72
COUNTS = ("one", "two", "three", "four")


class Scene(NamedTuple):
    """A class of moving_shapes_scene: what is there, an empty string (0, ()) where the class leaves it open."""

    split: str
    name: str
    count: int = 1
    colours: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    pattern: str = ""


def plural(shape: str) -> str:
    return shape + ("es" if shape.endswith("s") else "s")


def article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _scenes() -> tuple[Scene, ...]:
    """72 scenes of five kinds; of every nine of a kind's list, six train, one val, two test."""
    colours = list(COLOURS)
    scenes = [
        Scene("", article(f"{c} {s}"), 1, (c,), (s,))
        for k in range(2)
        for i, c in enumerate(colours)
        for s in [SHAPES[(i + 3 * k) % 8]]
    ]
    scenes += [Scene("", f"{COUNTS[n - 1]} {plural(s)}", n, (), (s,)) for n in (2, 3, 4) for s in SHAPES[n % 2 :: 2]]
    scenes += [
        Scene("", f"{article(s)} on a {p} ground", 1, (), (s,), p)
        for i, s in enumerate(SHAPES)
        for p in (PATTERNS[i % 4], PATTERNS[(i + 2) % 4])
    ]
    scenes += [
        Scene("", f"something {c} on a {PATTERNS[(i + k) % 4]} ground", 1, (c,), (), PATTERNS[(i + k) % 4])
        for k in range(2)
        for i, c in enumerate(colours[k::2])
    ]
    pairs = [(colours[i], SHAPES[(3 * i + 1) % 8], colours[(i + 3) % 10], SHAPES[(5 * i + 4) % 8]) for i in range(10)]
    scenes += [Scene("", f"{article(f'{a} {s}')} and {article(f'{b} {z}')}", 2, (a, b), (s, z)) for a, s, b, z in pairs]
    counted = ((2, "red"), (3, "blue"), (3, "yellow"), (2, "white"))
    scenes += [Scene("", f"{COUNTS[n - 1]} {c} things", n, (c,)) for n, c in counted]
    place = ("train", "train", "test", "train", "val", "train", "train", "test", "train")
    return tuple(scene._replace(split=place[i % 9]) for i, scene in enumerate(scenes))


SCENES = _scenes()


def _phases(rng: np.random.Generator) -> list[float]:
    """The phase of each frame: rest, action, rest, at a pace of its own."""
    start, length = 0.10 * float(rng.random()), 0.78 + 0.12 * float(rng.random())
    bend = 0.35 * (2 * float(rng.random()) - 1)  # above 0 the end is quicker
    phases = []
    for i in range(FRAMES):
        t = min(1.0, max(0.0, (i / (FRAMES - 1) - start) / length))
        phases.append(t + bend * t * (t - 1) if 0 < t < 1 else t)
    return phases


def _bystanders(
    rng: np.random.Generator, ground: Ground, taken: list[tuple[float, float, float]], most: int = 2
) -> list[list[Thing]]:
    """Small things that idle out of the way of ``taken`` (x, y, radius); one list of things per frame each."""
    found = []
    for _ in range(int(rng.integers(most + 1))):
        size = 0.045 + 0.03 * float(rng.random())
        shape, colour = SHAPES[int(rng.integers(len(SHAPES)))], some_colour(rng, ground)
        turn, reach, speed = 6.3 * float(rng.random()), 0.025 * float(rng.random()), 1 + float(rng.random())
        thing = Thing(shape, vary(rng, COLOURS[colour], 0.05), size=size, angle=6.3 * float(rng.random()))
        for _ in range(12):
            x, y = 0.07 + 0.86 * float(rng.random()), 0.07 + 0.86 * float(rng.random())
            if all((x - a) ** 2 + (y - b) ** 2 > (r + size + 0.02) ** 2 for a, b, r in taken):
                waves = [turn + speed * 2 * math.pi * i / FRAMES for i in range(FRAMES)]
                found.append([thing.moved(x=x + reach * math.cos(w), y=y + reach * math.sin(w)) for w in waves])
                break
    return found


class Film(NamedTuple):
    """What a clip is drawn from: the ground, the bystanders, frame by frame each, and of every frame the things that
    the class speaks of, each with its layer; how coarsely it is encoded, and its frames per second."""

    ground: Ground
    behind: list[list[Thing]]
    actors: list[list[tuple[int, Thing]]]
    quantiser: int = 14
    rate: int = 12

    def frames(self) -> np.ndarray:
        """uint8 [24 72 72 3]."""
        painted = paint_ground(self.ground, PIXELS)
        frames = []
        for i in range(FRAMES):
            front = [thing for _, thing in sorted(self.actors[i], key=lambda pair: pair[0])]
            frames.append(draw(painted, [film[i] for film in self.behind] + front))
        return np.stack(frames)

    def masks(self) -> np.ndarray:
        """bool [24 72 72]: the pixels that the things of the class cover by half or more, bystanders left out."""
        return np.stack([coverage([thing for _, thing in actors], PIXELS) >= 0.5 for actors in self.actors])


def _placed(thing: Thing, pose: Pose, x: float, y: float) -> tuple[int, Thing]:
    moved = thing.moved(x=x, y=y, size=thing.size * pose.size, angle=thing.angle + pose.angle, alpha=pose.alpha)
    return pose.layer, moved


def action_film(action: Action, rng: np.random.Generator) -> Film:
    """One clip of an action. Everything but the action's own motion is drawn from ``rng``."""
    ground = some_ground(rng)
    cast: list[Thing] = []
    names: tuple[str, ...] = ()
    for i in range(action.things):
        colour = some_colour(rng, ground, names)
        names = (*names, colour)
        low, high = {"cover": ((0.19, 0.23), (0.08, 0.105))[min(i, 1)]}.get(action.cast, (0.11, 0.15))
        size = low + (high - low) * float(rng.random())
        shape = SHAPES[int(rng.integers(len(SHAPES)))]
        if action.cast == "cover" and i == 0:  # what hides has no hole and no gap
            shape = ("circle", "square", "triangle", "star")[int(rng.integers(4))]
            size *= 1.25 if shape in ("triangle", "star") else 1.0
        if action.cast == "alike" and i:
            cast.append(cast[0])
            continue
        cast.append(
            Thing(shape, vary(rng, COLOURS[colour], 0.05), size=size, angle=0.35 * (2 * float(rng.random()) - 1))
        )
    left_open = Open(1 if rng.random() < 0.5 else -1, 2 * math.pi * float(rng.random()), float(rng.random()))
    poses = [action.motion(t, left_open) for t in _phases(rng)]

    reach = 0.31 + 0.06 * float(rng.random())
    xs, ys = ([getattr(pose, axis) * reach for frame in poses for pose in frame] for axis in "xy")
    centre = []
    for along in (xs, ys):  # anywhere, as long as the whole path stays 0.13 inside the picture
        least, most = 0.13 - min(along), 0.87 - max(along)
        centre.append(least + (most - least) * float(rng.random()) if most > least else (least + most) / 2)
    actors = [
        [
            _placed(thing, pose, centre[0] + reach * pose.x, centre[1] + reach * pose.y)
            for thing, pose in zip(cast, frame, strict=True)
        ]
        for frame in poses
    ]
    taken = [(thing.x, thing.y, thing.size) for frame in actors[::3] for _, thing in frame]
    return Film(ground, _bystanders(rng, ground, taken), actors)


def scene_film(scene: Scene, rng: np.random.Generator) -> Film:
    """One clip of a scene. What is there is the class; how it moves is drawn from ``rng``."""
    ground = some_ground(rng, scene.pattern)
    while not all(stands_out(colour, ground) for colour in scene.colours):
        ground = some_ground(rng, scene.pattern)
    spots = [(0.28, 0.3), (0.72, 0.3), (0.28, 0.7), (0.72, 0.7)]
    order = rng.permutation(4)
    drift = [action for action in ACTIONS if action.things == 1 and action.split == "train"]
    colour = shape = ""
    films, cast = [], []
    for i in range(scene.count):
        colour = scene.colours[i % len(scene.colours)] if scene.colours else colour or some_colour(rng, ground)
        shape = scene.shapes[i % len(scene.shapes)] if scene.shapes else shape or SHAPES[int(rng.integers(len(SHAPES)))]
        size = (0.16 if scene.count == 1 else 0.12) + 0.04 * float(rng.random())
        cast.append(
            Thing(shape, vary(rng, COLOURS[colour], 0.05), size=size, angle=0.35 * (2 * float(rng.random()) - 1))
        )
        left_open = Open(1 if rng.random() < 0.5 else -1, 2 * math.pi * float(rng.random()), float(rng.random()))
        motion = drift[int(rng.integers(len(drift)))].motion
        reach = (0.14 if scene.count == 1 else 0.08) + 0.05 * float(rng.random())
        x, y = spots[int(order[i])]
        x, y = x + 0.1 * (float(rng.random()) - 0.5), y + 0.1 * (float(rng.random()) - 0.5)
        film = []
        for t in _phases(rng):
            pose = motion(t, left_open)[0]
            pose = pose._replace(size=0.8 + 0.25 * pose.size, alpha=1.0)
            film.append(_placed(cast[i], pose, x + reach * pose.x, y + reach * pose.y))
        films.append(film)
    actors = [[film[i] for film in films] for i in range(FRAMES)]
    taken = [(thing.x, thing.y, thing.size) for frame in actors[::3] for _, thing in frame]
    return Film(ground, _bystanders(rng, ground, taken), actors)
