"""A language model as a graph: one step with its state, and a whole sequence of any length; batch size is free."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hybridgen.export.networks import SequenceGraph, StepGraph, TokenNetwork, example
from hybridgen.export.weights import write_whole

DESCRIPTION = "export.json"
#: How far log-probabilities of a graph may be from the model's, in nats.
TOLERANCE = 1e-4


def write_graphs(network: TokenNetwork, folder: Path, *, form: str) -> dict[str, Any]:
    """Write ``step`` and ``sequence`` as graphs, each checked against the network, and ``export.json`` about them.

    Args:
        network: what :func:`hybridgen.export.plain_network` returns.
        folder: made where it is not there.
        form: ``torch`` (``.pt2``, for :func:`torch.export.load`) or ``onnx`` (``.onnx``).

    Returns:
        What ``export.json`` holds: names and shapes of inputs and outputs, the initial state, the codec, and the
        largest difference that was found, or None where nothing was there to run the graph.

    Raises:
        ValueError: if a library is missing, a graph does not compute what the network does, or nothing can be written.
    """
    ways = {"torch": (".pt2", _export_torch, _run_torch), "onnx": (".onnx", _export_onnx, _run_onnx)}
    suffix, export, run = ways[form]
    state = network.initial_state(1)
    names = [f"state_{name}" for name in state._fields]
    differences, written = {}, {}
    for name, graph in (("step", StepGraph(network).eval()), ("sequence", SequenceGraph(network).eval())):
        content = export(graph, name, network, names)
        differences[name] = _check(content, name, graph, network, run)
        written[name] = content
    paths = {name: write_whole(folder / f"{name}{suffix}", content) for name, content in written.items()}
    codec = network.codec
    description = {
        "format": form,
        "files": {name: path.name for name, path in paths.items()},
        "inputs": {"step": ["token", *names], "sequence": ["tokens", *names]},
        "outputs": ["log_probs", *(f"new_{name}" for name in names)],
        "shapes": {"token": ["B"], "tokens": ["B", "T"], "log_probs of step": ["B", network.embedding.num_embeddings]},
        "initial_state": {name: part[0].tolist() for name, part in zip(names, state, strict=True)},
        "largest_difference": differences,
        "codec": None if codec is None else codec.to_config(),
    }
    text = json.dumps(description, indent=1, ensure_ascii=False) + "\n"
    write_whole(folder / DESCRIPTION, text.encode())
    return description


def _inputs(name: str, network: TokenNetwork, *, batch_size: int, steps: int, seed: int) -> tuple[Any, ...]:
    tokens, state = example(network, batch_size=batch_size, steps=steps, seed=seed)
    return (tokens[:, 0] if name == "step" else tokens), state


def _shapes(name: str, state: tuple[Tensor, ...]) -> tuple[Any, ...]:
    batch, time = torch.export.Dim("B"), torch.export.Dim("T")
    return ({0: batch} if name == "step" else {0: batch, 1: time}), tuple({0: batch} for _ in state)


def trace_step(network: TokenNetwork) -> torch.export.ExportedProgram:
    """One step as a program of plain operations: ``(token (B,), state) -> (log_probs (B, V), state)``, B free."""
    return _trace(StepGraph(network).eval(), "step", network)


def _trace(graph: nn.Module, name: str, network: TokenNetwork) -> torch.export.ExportedProgram:
    given = _inputs(name, network, batch_size=2, steps=5, seed=0)
    with torch.no_grad(), _quiet():
        return torch.export.export(graph, given, dynamic_shapes=_shapes(name, given[1]))


def _export_torch(graph: nn.Module, name: str, network: TokenNetwork, names: list[str]) -> bytes:
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(_trace(graph, name, network), buffer)
    return buffer.getvalue()


def _export_onnx(graph: nn.Module, name: str, network: TokenNetwork, names: list[str]) -> bytes:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise ValueError("ONNX needs a library that is not there: pip install 'hybridgen[export]'") from None
    given = _inputs(name, network, batch_size=2, steps=5, seed=0)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            graph,
            given,
            dynamo=True,
            verbose=False,
            input_names=["token" if name == "step" else "tokens", *names],
            output_names=["log_probs", *(f"new_{each}" for each in names)],
            dynamic_shapes=_shapes(name, given[1]),
        )
        return program.model_proto.SerializeToString()


def _check(
    content: bytes, name: str, graph: nn.Module, network: TokenNetwork, run: Callable[..., list[Any] | None]
) -> float | None:
    """The largest difference from the network, on a batch and a length that the export did not see."""
    given = _inputs(name, network, batch_size=3, steps=11, seed=1)
    found = run(content, given)
    if found is None:
        return None
    with torch.no_grad():
        kind = type(network.initial_state(1))
        of_network = network.step if name == "step" else network
        log_probs, state = of_network(given[0], kind(*given[1]))
    wanted = [log_probs, *state]
    worst = max(float(np.abs(np.asarray(one) - other.numpy()).max()) for one, other in zip(found, wanted, strict=True))
    if not worst <= TOLERANCE:
        raise ValueError(f"the graph of the {name} is {worst:.2g} nats from the model, more than {TOLERANCE:g}")
    return worst


def _run_torch(content: bytes, given: tuple[Any, ...]) -> list[Any]:
    with torch.no_grad(), _quiet():
        log_probs, state = torch.export.load(io.BytesIO(content)).module()(*given)
    return [log_probs.numpy(), *(part.numpy() for part in state)]


def _run_onnx(content: bytes, given: tuple[Any, ...]) -> list[Any] | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    values = [given[0], *given[1]]
    return session.run(None, {i.name: v.numpy() for i, v in zip(session.get_inputs(), values, strict=True)})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what the exporters say about themselves."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
