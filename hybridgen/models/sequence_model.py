"""The recurrent model of sequences of vectors, with no latent variable: an exact likelihood.

    h[t] = stack(x[t-1], h[t-1]),   p(x[t] | x[0..t-1]) = head(h[t])

x[-1] is a learned vector. It is the baseline of :class:`~hybridgen.models.VariationalRNN`, on the same data, heads and
evaluation: the rows LSTM and GRU of the tables on polyphonic music (Boulanger-Lewandowski et al. 2012,
arXiv:1206.6392).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hybridgen.models.building import build_stack
from hybridgen.models.element_model import ElementModel
from hybridgen.models.processes import shared
from hybridgen.objectives import likelihood


class SequenceModel(ElementModel):
    """A recurrent, autoregressive model of piano rolls, series, rows of images or strokes.

    Args:
        stack: the recurrent part, arguments of :class:`hybridgen.cells.Stack` without ``input_size``: cell,
            hidden_size, num_layers, dropout, zoneout, weight_drop, ... Default: one layer of 200 LSTM cells.
        head: distribution of an element: ``bernoulli`` (keys), ``gaussian``, ``mixture_of_logistics`` (numbers) or
            ``bivariate_mixture`` (strokes).
        head_options: further arguments of the head.
        label_size: width of a class's embedding, which every step reads, where the data has classes.
        activation_regularisation: weight of the mean square of the outputs after dropout (AR, Merity et al. 2018).
        temporal_regularisation: weight of the mean square of their change over time (TAR).
        learning_rate: peak learning rate of AdamW.
        weight_decay: of matrices; vectors are never decayed.
        betas: of AdamW.
        schedule: ``cosine`` or ``constant``, after the warm-up.
        warmup_steps: steps until the learning rate is at its peak.
        final_learning_rate: where the cosine ends, as a fraction of the peak.
        codec: a saved codec; taken from the data when it is trained.

    Raises:
        ValueError: if an option does not fit; the message names it.
    """

    def __init__(
        self,
        *,
        stack: dict[str, Any] | None = None,
        head: str = "bernoulli",
        head_options: dict[str, Any] | None = None,
        label_size: int = 16,
        activation_regularisation: float = 0.0,
        temporal_regularisation: float = 0.0,
        learning_rate: float = 3.0e-3,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.99),
        schedule: str = "cosine",
        warmup_steps: int = 50,
        final_learning_rate: float = 0.02,
        codec: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["codec"])
        self._begin(codec)

    def _build(self) -> None:
        width = self.codec.num_features
        labels = self.num_labels
        self.label_embedding = nn.Embedding(labels, self.options["label_size"]) if labels else None
        inputs = width + (self.options["label_size"] if labels else 0)
        self.stack = build_stack({"cell": "lstm", "hidden_size": 200} | (self.options["stack"] or {}), inputs)
        if self.stack.bidirectional:
            raise ValueError("stack: a bidirectional one reads what it is to predict, set bidirectional to false")
        self.head = self.make_head(self.stack.output_size)
        self.start = nn.Parameter(torch.zeros(width))

    def outputs(self, elements: Tensor, lengths: Tensor | None, labels: Tensor | None) -> Tensor:
        """What the head reads at each step, ``(B, T, H)``; it knows the elements before."""
        start = self.start.expand(len(elements), 1, -1)
        inputs = torch.cat([start, elements[:, :-1]], 1)
        if self.label_embedding is not None:
            embedded = self.label_embedding(labels).unsqueeze(1).expand(-1, inputs.shape[1], -1)
            inputs = torch.cat([inputs, embedded], -1)
        return self.stack(inputs, lengths=lengths)[0]

    def forward(self, elements: Tensor, lengths: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of every element.

        Args:
            elements: ``(B, T, F)``.
            lengths: ``(B,)``, or None where all have T.
            labels: ``(B,)`` classes, for a model with such.

        Returns:
            ``(B, T)`` nats; 0 beyond a sequence's end.
        """
        nll, _ = self._nats(elements, lengths, labels)
        return nll

    def _nats(self, elements: Tensor, lengths: Tensor | None, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        outputs = self.outputs(elements, lengths, labels)
        shape = elements.shape[:2]
        valid = torch.ones(shape, dtype=torch.bool, device=elements.device)
        if lengths is not None:
            valid = likelihood.valid_mask(tuple(shape), lengths=lengths.to(elements.device))
        rows = valid.flatten().nonzero().squeeze(1)
        hidden, targets = (values.flatten(0, 1).index_select(0, rows) for values in (outputs, elements))
        judge = self.head.loss if self.training else self.head.nll
        nll = judge(hidden, targets)
        return nll.new_zeros(valid.numel()).index_copy(0, rows, nll).view(shape), outputs

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        nll, outputs = self._nats(batch.elements, batch.lengths, self.labels_of(batch))
        loss = nll.sum() / batch.num_elements
        share, means = shared({"loss": loss}, batch.num_elements, self.device)
        self.log("train/loss", means["loss"], prog_bar=True, batch_size=batch.num_elements)
        alpha, beta = self.options["activation_regularisation"], self.options["temporal_regularisation"]
        if alpha:
            loss = loss + likelihood.activation_regularisation(outputs, alpha=alpha, lengths=batch.lengths)
        if beta:
            loss = loss + likelihood.temporal_activation_regularisation(outputs, beta=beta, lengths=batch.lengths)
        return loss * share

    def bounds(self, batch: Any, generator: torch.Generator) -> dict[str, tuple[Tensor, Tensor]]:
        """The exact negative log-likelihood, under the name ``nats``.

        Returns:
            By name, nats of every piece ``(B,)`` and of its first element ``(B,)``.
        """
        nll = self(batch.elements, batch.lengths, self.labels_of(batch))
        return {"nats": (nll.sum(1), nll[:, 0])}

    def _draw(self, labels: Tensor | None, noise: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        element = self.start.expand(len(uniforms), -1)
        state = self.stack.initial_state(len(uniforms))
        embedded = None if labels is None else F.embedding(labels, self.label_embedding.weight)
        drawn = []
        for each in uniforms.unbind(1):
            inputs = element if embedded is None else torch.cat([element, embedded], -1)
            output, state = self.stack.step(inputs, state)
            element = self.head.sample(output, temperature=temperature, uniforms=each)
            drawn.append(element)
        return torch.stack(drawn, 1)
