"""The distribution of a row of a table: numbers, categories, and whether a cell has a value at all.

    log p(x | h) = sum_numbers o_f log N(x_f; a(m_f), s_f) + sum_categories log softmax(l)[x] + sum_cells log s(+-l_o)

a is the logistic function for numbers that the codec scales to 0 to 1, tanh for -1 to 1, else nothing; o_f is 0 where
the cell is missing, which then has no density.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hybridgen.codecs import FeatureGroup
from hybridgen.heads.elements import ElementHead, bounded, check_bounds
from hybridgen.models.sequence_gan_output import FeatureOutput

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
_NUMBERS = ("unit", "symmetric", "real")
_EDGE = 1e-6
#: Of numbers in a range: a standard deviation near 0.1 before training.
_INITIAL_LOG_SCALE = -2.5


class FeatureHead(ElementHead):
    """Independent features of a codec of series or sounds, each by its kind.

    Args:
        hidden_size: width H of a hidden state.
        groups: what the F features are, ``codec.groups``.
        neutral: ``(F,)``, what stands where a cell is missing, ``codec.neutral``.
        min_log_scale: lower bound of the log of a number's standard deviation, below 0.
        max_log_scale: upper bound, above 0.

    Raises:
        ValueError: if a bound is on the wrong side of 0.
    """

    kind = "features"

    def __init__(
        self,
        hidden_size: int,
        groups: Sequence[FeatureGroup],
        neutral: Tensor,
        *,
        min_log_scale: float = -6.0,
        max_log_scale: float = 2.0,
    ) -> None:
        check_bounds(min_log_scale, max_log_scale)
        width = groups[-1].stop
        kinds = [group.kind for group in groups for _ in range(group.start, group.stop)]
        names = [group.name for group in groups for _ in range(group.start, group.stop)]
        numbers = [index for index, kind in enumerate(kinds) if kind in _NUMBERS]
        super().__init__(hidden_size, width, num_outputs=width + len(numbers), num_uniforms=width)
        self.min_log_scale, self.max_log_scale = min_log_scale, max_log_scale
        self.output = FeatureOutput(groups, neutral)
        self.categories = [(group.start, group.stop) for group in groups if group.kind == "categorical"]
        observed = {names[index]: index for index, kind in enumerate(kinds) if kind == "observed"}
        for name, value in (
            ("numbers", numbers),
            ("cells", list(observed.values())),
            # The feature that says whether a number is there; the one after the last is always 1.
            ("said_by", [observed.get(names[index], width) for index in numbers]),
            ("is_unit", [kinds[index] == "unit" for index in numbers]),
            ("is_symmetric", [kinds[index] == "symmetric" for index in numbers]),
        ):
            dtype = torch.bool if name.startswith("is_") else torch.int64
            self.register_buffer(name, torch.tensor(value, dtype=dtype), persistent=False)
        with torch.no_grad():
            # Numbers that the codec scales into a range deviate far less than 1 from their means.
            self.bias[width:] = torch.where(self.is_unit | self.is_symmetric, _INITIAL_LOG_SCALE, 0.0)

    def nll(self, hidden: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of rows.

        Args:
            hidden: ``(N, H)``.
            targets: ``(N, F)``.
            mask: ``(N, F)`` bool, where the targets say something.

        Returns:
            ``(N,)`` nats.
        """
        logits, log_scales = self._split(self._checked_outputs(hidden, targets))
        numbers, wanted = logits[:, self.numbers], targets[:, self.numbers]
        means = torch.where(self.is_unit, numbers.sigmoid(), torch.where(self.is_symmetric, numbers.tanh(), numbers))
        terms = 0.5 * ((wanted - means) * torch.exp(-log_scales)).square() + log_scales + _HALF_LOG_TWO_PI
        there = F.pad(targets, (0, 1), value=1.0)[:, self.said_by] > 0.5
        if mask is not None:
            there = there & mask[:, self.numbers]
        total = terms.masked_fill(~there, 0.0).sum(-1)
        for start, stop in self.categories:
            term = -(targets[:, start:stop] * logits[:, start:stop].log_softmax(-1)).sum(-1)
            total = total + (term if mask is None else term.masked_fill(~mask[:, start], 0.0))
        if len(self.cells):
            term = F.binary_cross_entropy_with_logits(logits[:, self.cells], targets[:, self.cells], reduction="none")
            total = total + (term if mask is None else term.masked_fill(~mask[:, self.cells], 0.0)).sum(-1)
        return total

    def mean(self, hidden: Tensor) -> Tensor:
        """Means of numbers, the likeliest category, the neutral value where a cell is likelier missing: ``(N, F)``."""
        self._check_hidden(hidden)
        return self.output(self._split(self._outputs(hidden))[0])

    def relaxed_sample(self, hidden: Tensor, uniforms: Tensor) -> Tensor:
        """A draw with a gradient; see :func:`hybridgen.heads.relaxed.relaxed_sample`."""
        return self._draw(self._outputs(hidden), uniforms.clamp(_EDGE, 1 - _EDGE), 1.0)

    def within_range(self, values: Tensor) -> Tensor:
        """Values ``(..., F)`` with numbers inside the range that the codec scales them to."""
        values = values.clone()
        numbers = values[..., self.numbers]
        bounded_numbers = torch.where(
            self.is_unit, numbers.clamp(0, 1), torch.where(self.is_symmetric, numbers.clamp(-1, 1), numbers)
        )
        values[..., self.numbers] = bounded_numbers
        return values

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        logits, raw = outputs.split([self.element_size, len(self.numbers)], -1)
        return logits, bounded(raw, self.min_log_scale, self.max_log_scale)

    def _draw(self, outputs: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        logits, log_scales = self._split(outputs)
        uniforms = uniforms.to(logits.dtype)
        if temperature != 1.0:
            keep = torch.zeros(self.element_size, dtype=torch.bool, device=logits.device)
            keep[self.numbers] = True  # the mean of a number stays; only what is discrete becomes sharper
            logits = torch.where(keep, logits, logits / temperature)
        values = self.output(logits, uniforms)
        there = F.pad(values, (0, 1), value=1.0)[:, self.said_by]
        noise = torch.exp(log_scales) * math.sqrt(temperature) * torch.special.ndtri(uniforms[:, self.numbers])
        return values.index_add(1, self.numbers, noise * there)
