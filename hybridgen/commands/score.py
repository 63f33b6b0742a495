"""`hybridgen score`: how probable a text is under a language model, one row for each way of evaluating it."""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridgen.commands.options import Parser, check_out_file
from hybridgen.commands.run_config import data_section
from hybridgen.commands.writing import write_json_lines

if TYPE_CHECKING:
    from hybridgen.data.tokens import TokenFile

DESCRIPTION = """
How probable a text is under a language model. Prints one JSON object a line for each protocol; numbers of two
protocols must never be compared. The first is static: the state carried from the text's first token to its last.
The text is FILE, or a part of the data of a run: --config RUN/config.yaml --part test, the same tokens and the same
static figure as `hybridgen test`.
"""

OF_RMS = ("dynamic_epsilon", "training_text")
DYNAMIC = ("dynamic_decay", "dynamic_segment", "dynamic_rule", *OF_RMS)
#: The smallest values, which the evaluations check too, but only when most of the work is done.
LEAST = {
    "cache_window": 1,
    "cache_theta": 0,
    "dynamic_learning_rate": 0,
    "dynamic_decay": 0,
    "dynamic_segment": 1,
    "dynamic_epsilon": 0,
}


def run(arguments: list[str]) -> int:
    """Print perplexity and bits per byte by every protocol asked for, and write the surprisal of every token.

    Raises:
        ValueError: if the checkpoint, the text or an option does not fit; the message is for the user.
    """
    parser = Parser(prog="hybridgen score", description=DESCRIPTION)
    parser.add_argument("--ckpt", required=True, metavar="FILE", help="a checkpoint that fit wrote")
    parser.add_argument("file", nargs="?", help="a UTF-8 text")
    parser.add_argument("--config", metavar="FILE", help="the configuration of a run, whose data are scored")
    parser.add_argument("--part", choices=("train", "valid", "test"), help="which part of it (default test)")
    parser.add_argument("--errors", "--data.errors", choices=("strict", "replace"), default="strict", dest="errors")
    parser.add_argument("--out", metavar="FILE", help="write each token and its surprisal in nats here (JSON lines)")
    parser.add_argument(
        "--window", type=int, action="append", metavar="N", help="also from a fresh state every N tokens; repeatable"
    )
    cache = parser.add_argument_group("neural cache", "Grave et al. 2017. Any of these adds its row.")
    cache.add_argument("--cache_window", type=int, metavar="N", help="states it holds (default 500)")
    cache.add_argument("--cache_theta", type=float, metavar="X", help="how it prefers similar ones (default 0.3)")
    cache.add_argument("--cache_interpolation", type=float, metavar="X", help="its share, in [0, 1) (default 0.1)")
    dynamic = parser.add_argument_group(
        "dynamic evaluation", "Krause et al. 2018. The weights follow the text; --dynamic_learning_rate adds its row."
    )
    dynamic.add_argument("--dynamic_learning_rate", type=float, metavar="X", help="5e-5 for rms on the Penn Treebank")
    dynamic.add_argument("--dynamic_decay", type=float, metavar="X", help="pull to the trained weights (default 0)")
    dynamic.add_argument("--dynamic_segment", type=int, metavar="N", help="tokens between two updates (default 5)")
    dynamic.add_argument("--dynamic_rule", choices=("sgd", "rms"), help="rms reads the training text (default sgd)")
    dynamic.add_argument("--dynamic_epsilon", type=float, metavar="X", help="of rms (default 2e-5)")
    dynamic.add_argument("--training_text", metavar="FILE", help="for rms, where --config does not give it")
    options = parser.parse_args(arguments)
    _check(options)

    from hybridgen.loading import load

    model = load(options.ckpt)
    if not hasattr(model, "surprisal"):
        raise ValueError(f"{options.ckpt} holds a {type(model).__name__}, which does not score text")
    with tempfile.TemporaryDirectory() as cache_dir:
        text = _Texts(model, options, Path(cache_dir))
        tokens, resets = text.stream(text.scored)
        byte_count = text.scored.counts.target_bytes
        begun = time.monotonic()
        nats = model.token_nats(tokens, resets=resets)
        _print_static(nats, byte_count, time.monotonic() - begun)
        if options.out is not None:
            ids = tokens[1:].tolist()
            rows = zip(ids, nats.tolist(), strict=True)
            decode = model.codec.decode
            write_json_lines(options.out, ({"token": decode([i]), "id": i, "nats": n} for i, n in rows))
            print(f"{len(ids)} tokens written to {options.out}", file=sys.stderr)
        for evaluate in _protocols(model, options, text):
            begun = time.monotonic()
            score = evaluate(tokens, resets=resets, byte_count=byte_count)
            _print(score, time.monotonic() - begun)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Everything that can be wrong with the options, before anything heavy is loaded."""
    if (options.file is None) == (options.config is None):
        raise ValueError("give the text to score: either a FILE or --config RUN/config.yaml, one of them")
    if options.part is not None and options.config is None:
        raise ValueError("--part is of the data of a configuration: give --config RUN/config.yaml")
    for path in filter(None, (options.file, options.config, options.training_text)):
        if not Path(path).is_file():
            raise ValueError(f"there is no file {path}")
    for window in options.window or []:
        if window < 1:
            raise ValueError(f"--window is {window}: give at least 1 token")
    if options.dynamic_learning_rate is None:
        given = [name for name in DYNAMIC if getattr(options, name) is not None]
        if given:
            raise ValueError(f"--{given[0]} is of dynamic evaluation: give --dynamic_learning_rate too")
    elif options.dynamic_rule == "rms" and options.training_text is None and options.config is None:
        raise ValueError(
            "--dynamic_rule rms scales by gradients on the training text: give --training_text or --config"
        )
    if options.dynamic_rule != "rms":
        given = [name for name in OF_RMS if getattr(options, name) is not None]
        if given:
            raise ValueError(f"--{given[0]} is of the rule rms: give --dynamic_rule rms too, or leave it out")
    for name, least in LEAST.items():
        value = getattr(options, name)
        if value is not None and not (math.isfinite(value) and value >= least):
            raise ValueError(f"--{name} is {value}: give a number of at least {least}")
    share = options.cache_interpolation
    if share is not None and not 0 <= share < 1:
        raise ValueError(f"--cache_interpolation is {share}: give the cache a share in [0, 1)")
    check_out_file(options.out)


class _Texts:
    """The text that is scored and, where it is needed, the training text, as token files of the model's codec."""

    def __init__(self, model: Any, options: argparse.Namespace, cache_dir: Path) -> None:
        self.model, self.options, self.cache_dir = model, options, cache_dir
        self.data = None if options.config is None else _data_of(Path(options.config), model.codec, options.errors)
        if self.data is not None:
            self.scored = self.data.tokens(options.part or "test")
        else:
            self.scored = self._encode(options.file)

    def training(self) -> "TokenFile":
        """The text that the model was trained on."""
        if self.options.training_text is not None:
            return self._encode(self.options.training_text)
        return self.data.tokens("train")

    def stream(self, tokens: "TokenFile") -> tuple[Any, Any]:
        """Ids ``(n,)``, of which the first is only read, and where the state is fresh, ``(n,)`` bool or None."""
        import numpy as np
        import torch

        ids = torch.from_numpy(tokens.take(np.arange(len(tokens))))
        # A start is the element before which a state is fresh; the evaluations name the prediction that it makes.
        starts = np.asarray(tokens.starts) + 1
        starts = starts[(starts > 1) & (starts < len(tokens))]
        if not len(starts) or (self.data is not None and not self.data.reset_documents):
            return ids, None
        resets = torch.zeros(len(ids), dtype=torch.bool)
        resets[torch.from_numpy(starts)] = True
        return ids, resets

    def _encode(self, path: str) -> "TokenFile":
        from hybridgen.data.encoding import encode_documents
        from hybridgen.data.sources import find_parts

        documents = find_parts(test=path)["test"]
        return encode_documents(documents, self.model.codec, cache_dir=self.cache_dir, errors=self.options.errors)


def _data_of(config: Path, codec: Any, errors: str) -> Any:
    """The text data of a saved configuration, read by the model's own codec."""
    from hybridgen.data import TextData

    name, arguments = data_section(config)
    if name != "TextData":
        raise ValueError(f"--config: {config} trains on {name}: only a TextData is scored")
    if arguments.get("layout") == "lines":
        raise ValueError(
            f"--config: the data of {config} are independent lines, which no state is carried through: "
            "use hybridgen test"
        )
    arguments |= {"codec": codec.to_config(), "codec_options": None}
    if errors == "replace":
        arguments["errors"] = errors
    try:
        return TextData(**arguments)
    except TypeError as error:
        raise ValueError(f"--config: the data of {config} do not fit this version: {error}") from None


def _protocols(model: Any, options: argparse.Namespace, text: _Texts) -> list[Callable[..., Any]]:
    """What else was asked for, each called with the tokens, ``resets`` and ``byte_count``."""
    from functools import partial

    from hybridgen import evaluation

    chosen: list[Callable[..., Any]] = [
        partial(evaluation.cold_nats, model.run, model.head, window=window) for window in options.window or []
    ]
    of_cache = {name: getattr(options, f"cache_{name}") for name in ("window", "theta", "interpolation")}
    of_cache = {name: value for name, value in of_cache.items() if value is not None}
    if of_cache:
        cache = evaluation.NeuralCache(**of_cache)
        chosen.append(partial(evaluation.cache_nats, model.run, model.head, cache=cache))
    if options.dynamic_learning_rate is not None:
        names = {"decay": "decay", "segment": "segment_length", "epsilon": "epsilon"}
        given = {parameter: getattr(options, f"dynamic_{option}") for option, parameter in names.items()}
        given = {name: value for name, value in given.items() if value is not None}
        given |= {"learning_rate": options.dynamic_learning_rate, "parameters": list(model.parameters())}
        if options.dynamic_rule == "rms":
            training, _ = text.stream(text.training())
            segment = {"segment_length": given["segment_length"]} if "segment_length" in given else {}
            given["scales"] = evaluation.gradient_scales(
                model.run, model.head, training, parameters=given["parameters"], **segment
            )
        chosen.append(partial(evaluation.dynamic_nats, model.run, model.head, **given))
    return chosen


def _print_static(nats: Any, byte_count: int, seconds: float) -> None:
    import torch

    from hybridgen.evaluation import LanguageScore

    total = float(nats.sum(dtype=torch.float64))
    _print(
        LanguageScore(protocol="static, carried state", nats=total, tokens=len(nats), byte_count=byte_count or None),
        seconds,
    )


def _print(score: Any, seconds: float) -> None:
    print(json.dumps(score.to_dict() | {"seconds": round(seconds, 1)}), flush=True)
