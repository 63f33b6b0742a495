"""Four-part harmony that is on every machine, since it is composed by rule: chords in phrases, voices led smoothly.

It is no Bach. It has what a model of chorales must find: a key and a mode, progressions that end in cadences, voices
that keep to their ranges, move little and do not run in parallel fifths or octaves, and passing notes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

#: The classes of the embedded set.
MODES = ("major", "minor")
_SIZES = {"train": 128, "valid": 32, "test": 32}
_SEED = 1685  # the year of J. S. Bach's birth

_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Which chord (by degree, 0 is the tonic) follows which, and how often.
_FOLLOWS = {
    0: ((3, 0.3), (4, 0.25), (5, 0.2), (1, 0.15), (2, 0.1)),
    1: ((4, 0.8), (6, 0.2)),
    2: ((5, 0.6), (3, 0.4)),
    3: ((4, 0.4), (1, 0.3), (0, 0.3)),
    4: ((0, 0.7), (5, 0.3)),
    5: ((1, 0.4), (3, 0.4), (4, 0.2)),
    6: ((0, 1.0),),
}
_CADENCES = ((3, 4, 0), (1, 4, 0), (4, 0), (0, 4))  # the last one leaves the phrase open
# Bass, tenor, alto, soprano: the lowest and highest MIDI note.
_RANGES = ((40, 60), (48, 67), (55, 74), (60, 79))
_PAIRS = np.triu_indices(4, 1)  # of voices
_LOWEST_KEY, _NUM_KEYS = 21, 88


@lru_cache(maxsize=1)
def embedded_rolls() -> dict[str, tuple[list[np.ndarray], list[int]]]:
    """Compose the set, which is the same everywhere.

    Returns:
        For ``train``, ``valid`` and ``test`` the rolls, each `(T, 88)` uint8 with a frame for a quarter note, and the
        class of each, an index into :data:`MODES`.
    """
    parts = {}
    for number, (part, size) in enumerate(_SIZES.items()):
        generator = np.random.default_rng((_SEED, number))
        labels = [int(generator.integers(2)) for _ in range(size)]
        parts[part] = ([_compose(generator, MODES[label]) for label in labels], labels)
    return parts


def _compose(generator: np.random.Generator, mode: str) -> np.ndarray:
    tonic = int(generator.integers(-3, 4))
    frames: list[tuple[int, ...]] = []
    voices: tuple[int, ...] | None = None
    for _ in range(int(generator.integers(3, 7))):
        degrees = _phrase(generator)
        for place, degree in enumerate(degrees):
            last = place == len(degrees) - 1
            leading = mode == "minor" and degree in (4, 6)  # the dominant's third is raised in minor
            before, voices = voices, _lead(generator, voices, _chord(tonic, mode, degree, leading), degree, tonic, mode)
            if before is not None and place and generator.random() < 0.25:
                frames[-1] = _passing(before, voices, tonic, mode)
            frames += [voices] * (2 if last or generator.random() < 0.3 else 1)
    roll = np.zeros((len(frames), _NUM_KEYS), dtype=np.uint8)
    for frame, notes in enumerate(frames):
        roll[frame, np.asarray(notes) - _LOWEST_KEY] = 1
    return roll


def _phrase(generator: np.random.Generator) -> list[int]:
    degrees = [0]
    cadence = _CADENCES[int(generator.choice(len(_CADENCES), p=(0.35, 0.25, 0.25, 0.15)))]
    for _ in range(int(generator.integers(4, 8))):
        following, weights = zip(*_FOLLOWS[degrees[-1]], strict=True)
        degrees.append(int(generator.choice(following, p=weights)))
    return [*degrees, *cadence]


def _chord(tonic: int, mode: str, degree: int, leading: bool) -> tuple[int, int, int]:
    """Pitch classes of root, third and fifth."""
    scale = list(_SCALES[mode])
    if leading:
        scale[6] = 11
    root, third, fifth = (scale[(degree + step) % 7] for step in (0, 2, 4))
    return (tonic + root) % 12, (tonic + third) % 12, (tonic + fifth) % 12


def _lead(
    generator: np.random.Generator,
    before: tuple[int, ...] | None,
    chord: tuple[int, int, int],
    degree: int,
    tonic: int,
    mode: str,
) -> tuple[int, ...]:
    """The four notes of the next chord: those that move least from the last and break no rule, give or take."""
    options = _voicings(chord, degree == 6)  # (N, 4)
    if before is None:
        middle = np.asarray([(low + high) / 2 for low, high in _RANGES])
        cost = np.abs(options - middle).sum(1)
    else:
        last = np.asarray(before)
        moves = options - last
        cost = np.abs(moves).sum(1) + 0.3 * np.square(moves[:, 3]) + 0.05 * np.square(moves[:, 0])
        cost = cost + 2.0 * (moves[:, 3] == 0)  # a melody should move
        low, high = _PAIRS
        interval = (options[:, high] - options[:, low]) % 12  # (N, 6)
        moved = (moves[:, low] != 0) & (moves[:, high] != 0)
        parallel = (interval == (last[high] - last[low]) % 12) & moved & ((interval == 0) | (interval == 7))
        cost = cost + 20.0 * parallel.sum(1)
    return tuple(int(note) for note in options[np.argmin(cost + generator.gumbel(size=len(options)))])


@lru_cache(maxsize=512)
def _voicings(chord: tuple[int, int, int], diminished: bool) -> np.ndarray:
    """Every arrangement of a chord for four voices, `(N, 4)`: in range, not crossing, complete, the root doubled."""
    root, third, _ = chord
    basses = (third,) if diminished else (root, third)
    notes = [
        [note for note in range(low, high + 1) if note % 12 in (basses if voice == 0 else chord)]
        for voice, (low, high) in enumerate(_RANGES)
    ]
    grid = np.stack(np.meshgrid(*notes, indexing="ij"), -1).reshape(-1, 4)
    rising = (np.diff(grid, axis=1) > 0).all(1) & (np.diff(grid[:, 1:], axis=1) <= 12).all(1)
    grid = grid[rising & (grid[:, 1] - grid[:, 0] <= 19)]
    good = np.stack([(grid % 12 == tone).any(1) for tone in chord]).all(0)
    if not diminished:
        good &= (grid % 12 == third).sum(1) == 1
    return grid[good]


def _passing(before: tuple[int, ...], after: tuple[int, ...], tonic: int, mode: str) -> tuple[int, ...]:
    """The old chord with scale notes in between where a voice is about to leap a third."""
    scale = {(tonic + step) % 12 for step in _SCALES[mode]}
    notes = list(before)
    for voice in (3, 1):
        if 3 <= abs(after[voice] - before[voice]) <= 4:
            low = min(before[voice], after[voice])
            between = [note for note in range(low + 1, max(before[voice], after[voice])) if note % 12 in scale]
            if between:
                notes[voice] = between[0]
    return tuple(notes)
