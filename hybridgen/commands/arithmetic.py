"""`hybridgen arithmetic`: change an attribute of sentences by a vector in the latent space."""

import math

from hybridgen.commands import latent
from hybridgen.commands.decoding import add_decoding, decoding_from
from hybridgen.commands.options import Parser, check_out_file


def run(arguments: list[str]) -> int:
    """Print sentences before and after the difference of two files' mean latents is added to theirs.

    Raises:
        ValueError: if the checkpoint, a file or an option does not fit; the message is for the user.
    """
    parser = Parser(
        prog="hybridgen arithmetic",
        description="Add to the latent of every sentence of --on the mean latent of --plus less that of --minus, and "
        "decode, greedily unless --do_sample is given. Sentences of --on should be in neither of the others.",
    )
    latent.add_shared(parser)
    parser.add_argument("--plus", required=True, metavar="FILE", help="sentences that have the attribute")
    parser.add_argument("--minus", required=True, metavar="FILE", help="sentences that lack it")
    parser.add_argument("--on", required=True, metavar="FILE", help="sentences to change")
    parser.add_argument("--scale", type=float, default=1.0, help="times the vector; negative takes it away (default 1)")
    add_decoding(parser, greedy=True)
    options = parser.parse_args(arguments)
    if not math.isfinite(options.scale):
        raise ValueError(f"--scale is {options.scale}: give a finite number")
    check_out_file(options.out)
    decoding = decoding_from(options)
    files = {
        name: latent.read_sentences(getattr(options, name), option=f"--{name}") for name in ("plus", "minus", "on")
    }
    model = latent.load_latent(options.ckpt)

    from hybridgen.generation.latent_paths import attribute_vector

    means = {name: latent.encode(model, found, getattr(options, name)) for name, found in files.items()}
    vector = options.scale * attribute_vector(means["plus"], means["minus"])
    before = latent.decode(model, means["on"], decoding)
    after = latent.decode(model, means["on"] + vector, decoding)
    rows = [
        {"line": sentence.line, "original": sentence.text, "reconstruction": old["text"], "scale": options.scale, **new}
        for sentence, old, new in zip(files["on"], before, after, strict=True)
    ]
    latent.note_unknown(model, rows, "original")
    latent.print_table(
        ("line", "original", "reconstruction", "changed"),
        [(r["line"], r["original"], r["reconstruction"], r["text"]) for r in rows],
    )
    changed = sum(row["text"] != row["reconstruction"] for row in rows)
    print(
        f"a vector of length {float(vector.norm()):.3g} from {len(files['plus'])} and {len(files['minus'])} sentences "
        f"changed {changed} of {len(rows)}"
    )
    latent.write_rows(options.out, rows)
    return 0
