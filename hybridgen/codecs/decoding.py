"""What models generate, as the things of their codec."""

from typing import Any

import torch
from torch import Tensor


def decoded_things(things: list[Any], codec: Any) -> list[Any]:
    """Series and waveforms of what a model generated, where it left their decoding to its codec.

    Args:
        things: what ``model.generate`` returned: features ``(T, F)`` each, or things that are decoded already.
        codec: of the model. Piano rolls, images and sketches stay as they are: their writers take features.

    Returns:
        :class:`hybridgen.codecs.Series`, waveforms ``(N,)``, or elements ``(T, F)``.
    """
    if not hasattr(codec, "groups") or not isinstance(things[0], Tensor) or things[0].dim() != 2:
        return things
    lengths = torch.tensor([len(thing) for thing in things])
    return codec.decode(torch.nn.utils.rnn.pad_sequence(things, batch_first=True), lengths=lengths)
