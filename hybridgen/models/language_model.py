"""The recurrent language model.

    h[t] = stack(embedding(x[t]), h[t-1]),   p(x[t+1] | x[0..t]) = head(h[t])

Trained by truncated backpropagation with the state carried from one chunk of the text to the next (Mikolov et al.
2010); regularised as in Merity et al. 2018, arXiv:1708.02182; output weights tied to the embedding as in Inan et al.
2017, arXiv:1611.01462.
"""

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric

from hybridgen import codecs, evaluation, heads
from hybridgen.cells import state as states
from hybridgen.cells.noise import dropout_mask
from hybridgen.data import TextBatch
from hybridgen.generation import DecodingOptions, Samples, StreamStep, beam_search, sample, stream
from hybridgen.generation.prompts import first_tokens
from hybridgen.generation.stepping import TokenStep
from hybridgen.models.building import SAME_TEXT_CODEC, build_stack, check_codec
from hybridgen.models.line_scores import LineScores, predicted_rows
from hybridgen.models.optimisation import configure
from hybridgen.models.processes import shared
from hybridgen.objectives import likelihood
from hybridgen.tracking.samples import SampleText


class LanguageModel(pl.LightningModule):
    """A recurrent language model over any text codec.

    Args:
        stack: the recurrent part, arguments of :class:`hybridgen.cells.Stack` without ``input_size``: cell,
            hidden_size, num_layers, dropout, zoneout, weight_drop, ... Default: two layers of 256 LSTM cells.
        embedding_size: width of a token's embedding.
        embedding_dropout: probability that a token's whole embedding is zero for a chunk (Gal & Ghahramani 2016).
        head: ``categorical``, ``adaptive`` (large vocabularies, tokens sorted by frequency) or ``mixture``.
        head_options: further arguments of the head.
        tie_weights: share the output weights with the embedding.
        activation_regularisation: weight of the mean square of the outputs after dropout (AR, alpha of Merity et al.
            2018).
        temporal_regularisation: weight of the mean square of their change over time (TAR, beta). Also after dropout,
            whose one mask for all steps makes this the paper's figure over the units that are kept.
        initialisation_range: draw all weights uniformly from plus or minus this, as Zaremba et al. 2014 do. Default:
            normal embeddings of length 1, the stack as its ``initialisation`` says.
        optimizer: ``adamw``, ``adam``, ``sgd``, ``rmsprop`` or ``adagrad``.
        optimizer_options: further arguments of torch's class, such as ``{momentum: 0.9}``.
        learning_rate: where the schedule peaks. The loss is a mean over the tokens of a chunk: a published rate for a
            loss summed over the steps (and a clipping norm with it) is another by that number; see ``loss_per``.
        weight_decay: of matrices; vectors are never decayed.
        betas: of ``adamw`` and ``adam``.
        loss_per: what the loss is a mean over: ``token``, or with ``layout: lines`` ``line`` (a line's nats are added
            up, as in a text VAE, so that a token counts the same in a batch of long lines and in one of short ones;
            what regularises is multiplied likewise). ``val/loss`` is per token in any case.
        schedule: ``cosine``, ``constant``, ``step`` (after some epochs, lower with every further one) or ``plateau``
            (lower when validation stops improving), after the warm-up.
        schedule_options: of ``step``: ``after`` (epochs; 4), ``every`` (1), ``factor`` (0.5); of ``plateau``:
            ``patience`` (1), ``factor`` (0.5), ``threshold`` (1e-4), ``monitor`` (val/loss).
        warmup_steps: steps until the learning rate is at its peak.
        final_learning_rate: where the cosine ends, as a fraction of the peak.
        codec: a saved text codec; taken from the data when it is trained.

    Raises:
        ValueError: if an option does not fit; the message names it.
    """

    def __init__(
        self,
        *,
        stack: dict[str, Any] | None = None,
        embedding_size: int = 128,
        embedding_dropout: float = 0.0,
        head: str = "categorical",
        head_options: dict[str, Any] | None = None,
        tie_weights: bool = True,
        activation_regularisation: float = 0.0,
        temporal_regularisation: float = 0.0,
        initialisation_range: float | None = None,
        optimizer: str = "adamw",
        optimizer_options: dict[str, Any] | None = None,
        learning_rate: float = 3.0e-3,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.95),
        loss_per: str = "token",
        schedule: str = "cosine",
        schedule_options: dict[str, Any] | None = None,
        warmup_steps: int = 100,
        final_learning_rate: float = 0.05,
        codec: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= embedding_dropout < 1:
            raise ValueError(f"embedding_dropout is {embedding_dropout}: give a probability in [0, 1)")
        if loss_per not in ("token", "line"):
            raise ValueError(f"loss_per is {loss_per!r}: choose 'token' or 'line'")
        if head not in heads.names():
            raise ValueError(f"head is {head!r}: choose one of {', '.join(heads.names())}")
        self.save_hyperparameters(ignore=["codec"])
        # What builds this model again, without what the command line adds to the hyperparameters.
        self.options = {
            name: self.hparams[name] for name in inspect.signature(LanguageModel).parameters if name != "codec"
        }
        defaults = {"cell": "lstm", "hidden_size": 256, "num_layers": 2}
        if initialisation_range is not None:
            if not initialisation_range > 0:
                raise ValueError(f"initialisation_range is {initialisation_range}: give a number above 0")
            defaults["initialisation"] = initialisation_range
        self.stack = build_stack(defaults | (stack or {}), embedding_size)
        if self.stack.bidirectional:
            raise ValueError("stack: a bidirectional one reads what it is to predict, set bidirectional to false")
        self.codec: codecs.TextCodec | None = None
        self.carried: Any = None  # state between two chunks of training
        self.tokens_seen = 0
        # Sums in double precision: a test set has millions of tokens.
        self.validation_nats = MeanMetric().set_dtype(torch.float64)
        self.test_nats = nn.ModuleDict()
        if codec is not None:
            self._build(codecs.from_config(codec))

    def _build(self, codec: codecs.TextCodec) -> None:
        self.codec = codec
        options = self.hparams
        self.embedding = nn.Embedding(codec.vocab_size, options.embedding_size)
        nn.init.normal_(self.embedding.weight, std=options.embedding_size**-0.5)
        self.head = heads.make(
            options.head,
            self.stack.output_size,
            codec.vocab_size,
            tied=self.embedding if options.tie_weights else None,
            **(options.head_options or {}),
        )
        if options.initialisation_range is not None:
            for parameter in (*self.embedding.parameters(), *self.head.parameters()):
                nn.init.uniform_(parameter, -options.initialisation_range, options.initialisation_range)

    # The model -------------------------------------------------------------------------------------------------

    def hidden(
        self, inputs: Tensor, state: Any = None, *, lengths: Tensor | None = None, resets: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Run tokens ``(B, T)`` through embedding and stack: outputs ``(B, T, H)`` and the last state."""
        weight = self.embedding.weight
        embedded = F.embedding(inputs, weight)
        if self.training and self.hparams.embedding_dropout:
            # One draw per token of the vocabulary, looked up like the embedding itself.
            kept = dropout_mask((len(weight),), self.hparams.embedding_dropout, weight)
            embedded = embedded * kept[inputs].unsqueeze(-1)
        return self.stack(embedded, state, lengths=lengths, resets=resets)

    def forward(self, inputs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Log-probabilities of every next token.

        Args:
            inputs: token ids ``(B, T)``.
            state: state before the first of them.

        Returns:
            Natural log-probabilities ``(B, T, V)`` and the state after the last.
        """
        outputs, state = self.hidden(inputs, state)
        return self.head.log_probs(outputs.flatten(0, 1)).unflatten(0, inputs.shape), state

    def nats(self, batch: TextBatch, state: Any = None) -> tuple[Tensor, Tensor, Any]:
        """Mean nats per target of a batch, the outputs ``(B, T, H)`` behind them, and the state after it."""
        outputs, state = self.hidden(batch.inputs, state, lengths=batch.lengths, resets=batch.resets)
        rows, targets = likelihood.select(outputs, batch.targets, lengths=batch.lengths)
        judge = self.head.loss if self.training else self.head.nll
        return judge(rows, targets).mean(), outputs, state

    #: Learning curves of the dashboard are drawn against this.
    step_metric = "train/tokens_seen"

    def run_callbacks(self, folder: Path) -> list[pl.Callback]:
        """What `hybridgen fit` adds to a training of this model: samples after every validation."""
        return [SampleText(folder)]

    # Training --------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Take the codec of the data, once.

        Raises:
            ValueError: if the data's codec is another than the model was trained with, or they have no lines to take
                the loss over.
        """
        data = self.trainer.datamodule
        if stage == "fit" and self.hparams.loss_per == "line" and getattr(data, "layout", "lines") != "lines":
            raise ValueError("loss_per is 'line': set the data's layout to 'lines', or loss_per to 'token'")
        if self.codec is None:
            self._build(data.codec)
        check_codec(self.codec, data, SAME_TEXT_CODEC)

    def training_step(self, batch: TextBatch, batch_index: int) -> Tensor:
        state = None if batch.first else self.carried
        loss, outputs, state = self.nats(batch, state)
        self.carried = states.detach(state)
        self.tokens_seen += batch.num_targets * self.trainer.world_size
        count = batch.num_targets if self.hparams.loss_per == "token" else len(batch.inputs)
        scale = batch.num_targets / count
        share, means = shared({"loss": loss * scale}, count, self.device)
        self.log("train/loss", means["loss"], prog_bar=True, batch_size=count)
        self.log("train/tokens_seen", float(self.tokens_seen), batch_size=1)
        alpha, beta = self.hparams.activation_regularisation, self.hparams.temporal_regularisation
        if alpha:
            loss = loss + likelihood.activation_regularisation(outputs, alpha=alpha, lengths=batch.lengths)
        if beta:
            loss = loss + likelihood.temporal_activation_regularisation(
                outputs, beta=beta, lengths=batch.lengths, resets=batch.resets
            )
        return loss * scale * share

    def forget_state(self) -> None:
        """Start from a fresh state with the next chunk, where the carried one is not finite."""
        if self.carried is not None and not all(bool(part.isfinite().all()) for part in self.carried):
            self.carried = None

    def on_validation_epoch_start(self) -> None:
        self._evaluated: Any = None
        self.validation_nats.reset()

    def validation_step(self, batch: TextBatch, batch_index: int) -> None:
        nats, _, self._evaluated = self.nats(batch, None if batch.first else self._evaluated)
        self.validation_nats.update(nats, batch.num_targets)

    def on_validation_epoch_end(self) -> None:
        self._log_nats("val", "loss", self.validation_nats.compute(), "valid")

    def on_test_epoch_start(self) -> None:
        self._evaluated, self._lines = None, LineScores(self)
        for protocol in (p for p in self.trainer.datamodule.test_protocols if p != "lines"):
            self.test_nats[protocol] = MeanMetric().set_dtype(torch.float64).to(self.device)

    def test_step(self, batch: TextBatch, batch_index: int, dataloader_idx: int = 0) -> None:
        protocol = self.trainer.datamodule.test_protocols[dataloader_idx]
        if protocol == "lines":
            self._lines.update(batch)
            return
        nats, _, self._evaluated = self.nats(batch, None if batch.first else self._evaluated)
        self.test_nats[protocol].update(nats, batch.num_targets)

    def on_test_epoch_end(self) -> None:
        if "lines" in self.trainer.datamodule.test_protocols:
            self.log_dict({f"test/{name}": value for name, value in self._lines.metrics().items()}, sync_dist=True)
        for protocol, metric in self.test_nats.items():
            self._log_nats("test", f"nats_{protocol}", metric.compute(), "test" if protocol == "carried" else None)
        self.test_nats.clear()

    def on_predict_epoch_start(self) -> None:
        self._evaluated = None

    def predict_step(self, batch: TextBatch, batch_index: int, dataloader_idx: int = 0) -> list[dict[str, Any]]:
        """How probable each row of the batch is: a line, or in lanes the next tokens of the text, its state carried.

        Returns:
            For each row: ``position`` of its first target in the token stream, ``text`` of the targets, how many
            ``tokens`` these are, their ``nats`` together and ``perplexity``.
        """
        state = None if batch.first else self._evaluated
        outputs, self._evaluated = self.hidden(batch.inputs, state, lengths=batch.lengths, resets=batch.resets)
        return predicted_rows(self, outputs, batch)

    def _log_nats(self, stage: str, name: str, nats: Tensor, part: str | None) -> None:
        """Log nats per token and what follows from them; ``part`` is the text they are of, if all of it."""
        # All processes have the same numbers here; sync_dist keeps Lightning from warning that they might not.
        self.log(f"{stage}/{name}", nats.float(), prog_bar=True, sync_dist=True)
        if part is not None:
            counts = self.trainer.datamodule.counts[part]
            self.log(f"{stage}/perplexity", nats.exp().float(), prog_bar=True, sync_dist=True)
            total = float(nats) * counts.targets
            self.log(f"{stage}/bits_per_byte", likelihood.bits_per_unit(total, counts.target_bytes), sync_dist=True)
            if self.codec.name == "characters":
                self.log(f"{stage}/bits_per_character", likelihood.bits_per_unit(total, counts.targets), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The optimiser and the schedule that the configuration names; see :mod:`hybridgen.models.optimisation`."""
        return configure(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the file complete: the codec, and the state between two chunks."""
        checkpoint["hybridgen_model"] = type(self).__name__
        checkpoint["options"] = self.options
        checkpoint["codec"] = self.codec.to_config()
        checkpoint |= self.rank_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.codec is None:
            self._build(codecs.from_config(checkpoint["codec"]))
        self.load_rank_state(checkpoint)

    def rank_state(self) -> dict[str, Any]:
        """What only this process has: the state after the last chunk of its lanes, and how long these were."""
        carried = None if self.carried is None else states.to_dict(self.carried)
        return {"carried": carried, "tokens_seen": self.tokens_seen}

    def load_rank_state(self, state: dict[str, Any]) -> None:
        """Go on with the lanes of this process."""
        self.tokens_seen = state["tokens_seen"]
        carried = state["carried"]
        self.carried = None
        if carried is not None:
            self.carried = states.from_dict(self.stack, {n: part.to(self.device) for n, part in carried.items()})

    # Generation ------------------------------------------------------------------------------------------------

    def generate(
        self,
        prompts: Sequence[str],
        options: DecodingOptions | None = None,
        *,
        sample_numbers: Sequence[int] | None = None,
    ) -> Samples:
        """Continue prompts.

        Args:
            prompts: texts; an empty one starts where a document starts, as far as the codec can say that.
            options: how tokens are chosen; see :class:`~hybridgen.generation.DecodingOptions`.
            sample_numbers: number of each sample for its random draws, by default 0, 1, 2...

        Returns:
            The samples; ``texts`` are the continuations.

        Raises:
            ValueError: if an option or a prompt does not fit (a character the codec does not know, for example).
        """
        return sample(**self._generation(prompts), options=options, sample_numbers=sample_numbers)

    def generate_stream(
        self,
        prompts: Sequence[str],
        options: DecodingOptions | None = None,
        *,
        sample_numbers: Sequence[int] | None = None,
    ) -> Iterator[StreamStep]:
        """:meth:`generate`, token by token."""
        return stream(**self._generation(prompts), options=options, sample_numbers=sample_numbers)

    def search(self, prompt: str, options: DecodingOptions) -> list[dict[str, Any]]:
        """The ``options.num_beams`` best continuations of a prompt by beam search, best first.

        Returns:
            For each, ``text`` and ``score``, its log-probability after the length penalty.
        """
        settings = self._generation([prompt])
        decode = settings.pop("decode")
        beams = beam_search(**settings, options=options)
        rows = zip(beams.tokens[0], beams.lengths[0].tolist(), beams.scores[0].tolist(), strict=True)
        return [{"text": decode(tokens[:length].tolist()), "score": score} for tokens, length, score in rows]

    def surprisal(self, text: str, *, chunk: int = 1024) -> tuple[Tensor, Tensor]:
        """How unexpected every token of a text is.

        Args:
            text: at least two tokens of it.
            chunk: tokens run at once; decides the memory, not the result.

        Returns:
            The token ids ``(N,)`` and, for all but the first, their nats ``(N - 1,)`` given those before.

        Raises:
            ValueError: if the text is shorter than two tokens, or holds what the codec does not know.
        """
        ids = self.codec.encode(text)
        if len(ids) < 2:
            raise ValueError(f"a text of {len(ids)} tokens has nothing to predict: give at least two")
        return ids, self.token_nats(ids, chunk=chunk)

    def token_nats(self, tokens: Tensor, *, resets: Tensor | None = None, chunk: int = 1024) -> Tensor:
        """Nats of every token but the first of ``tokens (N,)``: ``(N - 1,)``, the state carried through them.

        Args:
            tokens: ids; the first is only read.
            resets: ``(N,)`` bool, where the state is fresh; see :func:`hybridgen.evaluation.carried_nats`.
            chunk: tokens run at once; decides the memory, not the result.
        """
        self.eval()
        return evaluation.token_nats(self.run, self.head, tokens, resets=resets, chunk_length=chunk)

    def run(self, inputs: Tensor, state: Any, resets: Tensor | None) -> tuple[Tensor, Any]:
        """:meth:`hidden` in the form that the functions of :mod:`hybridgen.evaluation` take."""
        return self.hidden(inputs, state, resets=resets)

    def _generation(self, prompts: Sequence[str]) -> dict[str, Any]:
        self.eval()
        tokens = [first_tokens(self.codec, prompt) for prompt in prompts]
        eos = self.codec.eos_id if self.codec.name != "words" else None
        return {
            "step": TokenStep(self.embedding.weight, self.stack, self.head),
            "prompts": tokens,
            "state": self.stack.initial_state(len(prompts)),
            "eos_token_id": eos,
            "decode": self.codec.decode,
            "prefill": lambda inputs, lengths, state: self.hidden(inputs, state, lengths=lengths)[1],
        }
