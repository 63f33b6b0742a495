"""Weights as safetensors beside their configuration as JSON: no pickle, readable by any language."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from hybridgen import codecs
from hybridgen.data.files import whole_file
from hybridgen.export.int8 import dequantise_weights, quantise_weights
from hybridgen.export.networks import TokenNetwork

WEIGHTS, CONFIG = "model.safetensors", "config.json"
#: Raised when a reader of the older form would be wrong; what has int8 matrices is of the second.
FORMAT, INT8_FORMAT = 1, 2


def write_weights(model: Any, folder: Path, *, int8: bool = False) -> list[Path]:
    """Write ``model.safetensors`` and ``config.json``; both replace what was there as a whole.

    Args:
        model: any model of the toolkit, as :func:`hybridgen.load` returns it.
        folder: made where it is not there.
        int8: matrices as int8 with a scale for each row, as :mod:`hybridgen.export.int8` says.

    Returns:
        The two files.

    Raises:
        ValueError: if the folder cannot be written, or a matrix that is to be int8 holds what is not finite.
    """
    from safetensors.torch import save

    from hybridgen import __version__

    tensors, shared = _without_twins(model.state_dict())
    if int8:
        # Buffers are counts and statistics, such as how often each length was seen: rounded, rare ones would be gone.
        tensors = quantise_weights(tensors, {name for name, _ in model.named_buffers(remove_duplicate=False)})
    config = {
        "format": INT8_FORMAT if int8 else FORMAT,
        "hybridgen": __version__,
        "model": type(model).__name__,
        "options": json.loads(json.dumps(dict(model.options))),
        "codec": model.codec.to_config(),
        "shared": shared,
    }
    return [
        write_whole(folder / WEIGHTS, save(tensors)),
        write_whole(folder / CONFIG, (json.dumps(config, indent=1, ensure_ascii=False) + "\n").encode()),
    ]


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and the weights that :func:`write_weights` wrote; int8 matrices as the float32 they stand for.

    Raises:
        ValueError: if the folder holds no such thing, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    kinds = {"format": int, "model": str, "options": dict, "codec": dict, "shared": dict}
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict) or not all(isinstance(config.get(k), kind) for k, kind in kinds.items()):
            raise ValueError
        if config["format"] not in (FORMAT, INT8_FORMAT):
            raise ValueError(f"format {config['format']}")
    except (OSError, ValueError):
        raise ValueError(
            f"{folder / CONFIG} is missing or not what `hybridgen export --format safetensors` (or int8) writes: "
            "export it again"
        ) from None
    try:
        weights = dequantise_weights(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, LookupError):
        raise ValueError(f"{folder / WEIGHTS} is missing or damaged: export it again") from None
    for twin, name in config["shared"].items():
        if not isinstance(name, str) or name not in weights:
            raise ValueError(
                f"{folder / CONFIG} shares the weight {name!r}, which {folder / WEIGHTS} has not: export it again"
            )
        weights[twin] = weights[name]
    return config, weights


def load_network(folder: str | Path) -> TokenNetwork:
    """A language model from an exported folder, by torch alone: neither Lightning nor a dashboard is imported.

    Args:
        folder: what ``hybridgen export --format safetensors`` or ``int8`` wrote.

    Returns:
        The network in evaluation mode, with its ``codec``.

    Raises:
        ValueError: if the folder cannot be used, or holds another kind of model.
    """
    folder = Path(folder)
    config, weights = read_folder(folder)
    if config["model"] != "LanguageModel":
        raise ValueError(f"{folder} holds a {config['model']}: load it by hybridgen.load, which needs Lightning")
    try:
        network = _network_of(config["options"], codecs.from_config(config["codec"]))
        wanted = network.state_dict().keys()
        network.load_state_dict({name: value for name, value in weights.items() if name in wanted})
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"{folder / CONFIG} and {WEIGHTS} beside it are not of one LanguageModel ({said}): export it again"
        ) from error
    return network.eval()


def _network_of(options: dict[str, Any], codec: Any) -> TokenNetwork:
    """The network that a language model of these options has, with weights still to be loaded."""
    defaults = {"cell": "lstm", "hidden_size": 256, "num_layers": 2}
    network = TokenNetwork(
        stack=defaults | (options["stack"] or {}) | {"input_size": options["embedding_size"]},
        vocab_size=codec.vocab_size,
        embedding_size=options["embedding_size"],
        head=options["head"],
        head_options=options["head_options"],
        tied=options["tie_weights"],
    )
    network.codec = codec
    return network


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file as a whole or not at all.

    Raises:
        ValueError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as (file, _):
            file.write(content)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}): give another place by --out") from None
    return path


def _without_twins(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of their own, and which other names the same memory has (tied weights): the format allows none."""
    kept: dict[str, Tensor] = {}
    first: dict[tuple[int, Any], str] = {}
    shared: dict[str, str] = {}
    for name, tensor in tensors.items():
        key = (tensor.data_ptr(), tuple(tensor.shape))
        if tensor.numel() and key in first:
            shared[name] = first[key]
        else:
            first[key] = name
            kept[name] = tensor.detach().clone().contiguous()
    return kept, shared
