"""`hybridgen score`: how probable a text is under a model."""

import json
import sys
from pathlib import Path

from hybridgen.commands.options import Parser


def run(arguments: list[str]) -> int:
    """Print perplexity and bits per byte of a file, and write the surprisal of every token as JSON lines."""
    parser = Parser(prog="hybridgen score", description="How probable a text is under a model.")
    parser.add_argument("--ckpt", required=True, metavar="FILE", help="a checkpoint that fit wrote")
    parser.add_argument("file", help="a UTF-8 text")
    parser.add_argument("--out", metavar="FILE", help="write each token and its surprisal in nats here (JSON lines)")
    options = parser.parse_args(arguments)
    path = Path(options.file)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 at byte {error.start}: convert it first") from None

    from hybridgen.loading import load
    from hybridgen.objectives import likelihood

    model = load(options.ckpt)
    if not hasattr(model, "surprisal"):
        raise ValueError(f"{options.ckpt} holds a {type(model).__name__}, which does not score text")
    ids, nats = model.surprisal(text)
    # The first token has nothing before it and is not predicted, nor are its bytes counted.
    count, total = len(nats), float(nats.sum())
    size = model.codec.count_bytes(ids[1:])
    print(
        json.dumps(
            {
                "tokens": count,
                "nats_per_token": total / count,
                "perplexity": likelihood.perplexity(total / count),
                "bits_per_byte": likelihood.bits_per_unit(total, size) if size else None,
                "protocol": "carried state from the text's first token on; the first token is given",
            }
        )
    )
    if options.out is not None:
        partial = Path(options.out).with_name(Path(options.out).name + ".partial")
        with partial.open("w", encoding="utf-8") as file:
            for token, surprisal in zip(ids[1:].tolist(), nats.tolist(), strict=True):
                row = {"token": model.codec.decode([token]), "id": token, "nats": surprisal}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        partial.replace(options.out)
        print(f"{count} tokens written to {options.out}", file=sys.stderr)
    return 0
