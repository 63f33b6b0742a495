"""Sketches that are on every machine, since they are drawn by rule: shapes by an unsteady hand."""

from __future__ import annotations

import numpy as np

#: The classes.
SHAPES = ("circle", "square", "triangle", "star")
_CORNERS = {"square": 4, "triangle": 3, "star": 10}


def synthetic_sketches(number: int, seed: tuple[int, ...]) -> list[tuple[np.ndarray, int]]:
    """Draw shapes, each in one line, of any size, turn and start; half of the circles are faces with two eyes.

    Args:
        number: How many.
        seed: Of all that is drawn: the same everywhere.

    Returns:
        The pen's moves `(N, 3)` and the class of each, an index into :data:`SHAPES`.
    """
    generator = np.random.default_rng(seed)
    return [_draw(generator) for _ in range(number)]


def _draw(generator: np.random.Generator) -> tuple[np.ndarray, int]:
    label = int(generator.integers(len(SHAPES)))
    shape = SHAPES[label]
    turn = generator.uniform(-0.3, 0.3)
    if shape == "circle":
        angles = turn + np.linspace(0, 2 * np.pi, int(generator.integers(14, 22)))
        lines = [np.stack([np.cos(angles), np.sin(angles)], 1)]
        if generator.random() < 0.5:
            lines += [np.array([[x, -0.3], [x, -0.15]]) for x in (-0.35, 0.35)]
    else:
        corners = _CORNERS[shape]
        angles = turn + np.pi / 4 + np.linspace(0, 2 * np.pi, corners + 1)
        radius = np.where(np.arange(corners + 1) % 2, 0.45, 1.0) if shape == "star" else np.ones(corners + 1)
        outline = np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None]
        # A point or two between the corners, as a hand slows down there.
        between = 1 if shape == "star" else int(generator.integers(2, 4))
        steps = np.arange(corners * between + 1) / between
        which = np.minimum(steps.astype(int), corners - 1)
        share = (steps - which)[:, None]
        lines = [(1 - share) * outline[which] + share * outline[which + 1]]
    size = generator.uniform(20, 40) * generator.uniform(0.8, 1.25, size=2)
    lines = [line * size + generator.normal(0, 0.6, size=line.shape) for line in lines]
    points = np.concatenate(lines)
    lifted = np.zeros(len(points))
    lifted[np.cumsum([len(line) for line in lines]) - 1] = 1
    return np.column_stack([np.diff(points, axis=0, prepend=points[:1] * 0), lifted]), label
