"""A map of a text model's latent space: the means of sentences along the two directions in which they vary most."""

from dataclasses import dataclass
from typing import Any

import torch

from hybridgen.generation import DecodingOptions


@dataclass
class LatentMap:
    """Points of sentences.

    Attributes:
        points: of each sentence, in the latent's own units.
        texts: the sentences.
        lengths: their tokens.
        explained: fraction of the variance along each of the two directions.
        source: where the sentences are from.
    """

    points: list[tuple[float, float]]
    texts: list[str]
    lengths: list[int]
    explained: tuple[float, float]
    source: str


def map_latents(model: Any, text: str | None, *, most: int = 250) -> LatentMap | None:
    """Encode sentences and lay them out; None for a model without a latent space of sentences.

    Args:
        model: of a checkpoint.
        text: with a sentence on each line; by default sentences that the model writes from its prior.
        most: sentences, at most.

    Raises:
        ValueError: if the model cannot read a sentence, or computes what is no number.
    """
    if not (hasattr(model, "encode") and hasattr(model, "decode") and hasattr(model.codec, "vocab_size")):
        return None
    source = "of a text that was given"
    if text is None:
        source = "that the model wrote from its prior"
        text = "\n".join(model.generate(most, DecodingOptions(max_new_tokens=60)).texts)
    texts = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))[:most]
    if len(texts) < 4:
        return None
    with torch.no_grad():
        means = model.encode(texts).mean.float().cpu()
    if not torch.isfinite(means).all():
        raise ValueError("what the model computes is not finite")
    centred = means - means.mean(0)
    _, scales, directions = torch.linalg.svd(centred, full_matrices=False)
    if len(scales) < 2:
        return None
    # The sign of a direction means nothing: its largest part is made positive, so that the map is the same each time.
    directions = directions[:2]
    signs = directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
    points = (centred @ (directions * signs).T).tolist()
    shares = (scales.square() / scales.square().sum().clamp(min=1e-12))[:2].tolist()
    return LatentMap(
        [(round(x, 4), round(y, 4)) for x, y in points],
        texts,
        [len(model.codec.encode(each)) for each in texts],
        (round(shares[0], 3), round(shares[1], 3)),
        source,
    )
