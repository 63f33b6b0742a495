"""A text VAE on the page: the way between two sentences, and sentences from the prior."""

from typing import Any, NamedTuple

from hybridgen.commands import latent
from hybridgen.generation import DecodingOptions
from hybridgen.generation.latent_paths import path_between

#: Places on the way that the slider can stand at, both ends included.
PLACES = 101
#: Tokens of a sentence, at most.
LONGEST = 100


class Place(NamedTuple):
    """A sentence on the way.

    Attributes:
        share: of the way, 0 to 1.
        text: what the model writes there, always its most probable token.
        nats: of that sentence.
    """

    share: float
    text: str
    nats: float


def between(model: Any, start: str, end: str, share: float, *, path: str = "slerp") -> Place:
    """What the model writes at a place of the way, as ``hybridgen interpolate`` would with 101 steps.

    Args:
        model: a :class:`hybridgen.models.TextVAE` or ``LatentGAN``.
        start: a sentence.
        end: likewise.
        share: of the way, 0 to 1; in hundredths.
        path: ``slerp`` or ``lerp``.

    Raises:
        ValueError: if a sentence is empty, has several lines or what the codec does not know, or there is no such path.
    """
    place = round(share * (PLACES - 1))
    return _written(model, start, end, PLACES, path, [place])[0]


def way(model: Any, start: str, end: str, steps: int, *, path: str = "slerp") -> list[Place]:
    """The whole way, in so many steps; see :func:`between`."""
    return _written(model, start, end, steps, path, list(range(steps)))


def _written(model: Any, start: str, end: str, steps: int, path: str, places: list[int]) -> list[Place]:
    ends = []
    for text, what in ((start, "the first sentence"), (end, "the second sentence")):
        ends.append(latent.encode_one(model, latent.check_sentence(text, what), what))
    points = path_between(*ends, steps, path)[places]
    rows = latent.decode(model, points, DecodingOptions(do_sample=False, max_new_tokens=LONGEST))
    return [Place(place / (steps - 1), row["text"], row["nats"]) for place, row in zip(places, rows, strict=True)]


def unknown_words(model: Any, start: str, end: str) -> str:
    """A note on words that the model does not know, empty where it knows all."""
    codec = model.codec
    if codec.unk_id is None:
        return ""
    said = []
    for text, what in ((start, "first"), (end, "second")):
        ids = codec.encode(text.strip())
        count = int((ids == codec.unk_id).sum())
        if count:
            said.append(f"the model does not know {count} of the {len(ids)} words of the {what} sentence")
    return "; ".join(said)


def from_prior(model: Any, number: int, options: DecodingOptions) -> list[str]:
    """New sentences, those of ``hybridgen sample`` with the same options."""
    return [row["text"] for row in latent.prior_rows(model, number, options, "")]
