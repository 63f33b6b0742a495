"""What a language model computes, as plain torch modules: no Lightning, no codec, no optimiser."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hybridgen import codecs, heads
from hybridgen.cells import Stack


class TokenNetwork(nn.Module):
    """Embedding, stack and head of a language model.

    Args:
        stack: arguments of :class:`hybridgen.cells.Stack`, ``input_size`` too.
        vocab_size: V.
        embedding_size: width of an embedding.
        head: name of the head.
        head_options: its further arguments.
        tied: whether the head shares the embedding's weights.

    Attributes:
        codec: what turns text into tokens and back, where it was loaded with one.
    """

    def __init__(
        self,
        *,
        stack: Mapping[str, Any],
        vocab_size: int,
        embedding_size: int,
        head: str,
        head_options: Mapping[str, Any] | None = None,
        tied: bool = True,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.stack = Stack(**stack)
        shared = {"tied": self.embedding if tied else None}
        self.head = heads.make(head, self.stack.output_size, vocab_size, **shared, **(head_options or {}))
        self.codec: codecs.TextCodec | None = None

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first token."""
        return self.stack.initial_state(batch_size)

    def step(self, token: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One token.

        Args:
            token: ``(B,)`` ids.
            state: state before it.

        Returns:
            Natural log-probabilities ``(B, V)`` of the next token, and the state after this one.
        """
        output, state = self.stack.step(self.embedding(token), state)
        return self.head.log_probs(output), state

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Many tokens.

        Args:
            tokens: ``(B, T)`` ids.
            state: state before the first of them.

        Returns:
            Natural log-probabilities ``(B, T, V)`` of every next token, and the last state.
        """
        outputs, state = self.stack(self.embedding(tokens), state)
        return self.head.log_probs(outputs.flatten(0, 1)).unflatten(0, tokens.shape), state


def plain_network(model: Any) -> TokenNetwork:
    """The network of a trained language model, its weights shared with it.

    Raises:
        ValueError: if the model is of another kind.
    """
    parts = ("embedding", "stack", "head")
    if not isinstance(getattr(model, "codec", None), codecs.TextCodec) or not all(hasattr(model, p) for p in parts):
        raise ValueError(
            f"a {type(model).__name__} has no network from token to token: give a checkpoint of a LanguageModel, or "
            "export its weights by --format safetensors"
        )
    network = TokenNetwork.__new__(TokenNetwork)
    nn.Module.__init__(network)
    network.embedding, network.stack, network.head = model.embedding, model.stack, model.head
    network.codec = model.codec
    return network.eval()


class StepGraph(nn.Module):
    """:meth:`TokenNetwork.step` with the state as a flat tuple of tensors, as graphs take it."""

    def __init__(self, network: TokenNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, token: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One step: ``token (B,)`` and tensors ``(B, width)`` to natural log-probabilities ``(B, V)`` and tensors."""
        kind = type(self.network.initial_state(1))
        log_probs, state = self.network.step(token, kind(*state))
        return log_probs, tuple(state)


class SequenceGraph(nn.Module):
    """:meth:`TokenNetwork.forward` as a loop that a graph can hold, so that T stays free."""

    def __init__(self, network: TokenNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All steps: ``tokens (B, T)`` to natural log-probabilities ``(B, T, V)`` and the last state's tensors."""
        # Not public in torch 2.11, and the one loop that both torch.export and ONNX keep as a loop.
        from torch._higher_order_ops.scan import scan

        kind = type(self.network.initial_state(1))

        def advance(carried: list[Tensor], element: Tensor) -> tuple[list[Tensor], Tensor]:
            output, new = self.network.stack.step(element, kind(*carried))
            return [part.clone() for part in new], output

        embedded = self.network.embedding(tokens).transpose(0, 1)  # (T, B, E)
        last, outputs = scan(advance, list(state), embedded)
        outputs = outputs.transpose(0, 1)  # (B, T, H)
        log_probs = self.network.head.log_probs(outputs.reshape(-1, outputs.shape[-1]))
        return log_probs.reshape(*tokens.shape, -1), tuple(last)


@torch.no_grad()
def example(network: TokenNetwork, *, batch_size: int, steps: int, seed: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Random tokens ``(B, T)`` and a state that some steps of other tokens led to."""
    random = torch.Generator().manual_seed(seed)
    size = network.embedding.num_embeddings
    tokens = torch.randint(size, (batch_size, steps), generator=random)
    before = torch.randint(size, (batch_size, 3), generator=random)
    return tokens, tuple(part.contiguous() for part in network(before)[1])
