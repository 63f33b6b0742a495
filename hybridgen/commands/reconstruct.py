"""`hybridgen reconstruct`: sentences through the latent and back."""

from hybridgen.commands import latent
from hybridgen.commands.decoding import add_decoding, decoding_from
from hybridgen.commands.options import Parser


def run(arguments: list[str]) -> int:
    """Print every sentence of a file beside what the model makes of its latent."""
    parser = Parser(
        prog="hybridgen reconstruct",
        description="Encode every sentence of a file and decode it again, greedily unless --do_sample is given. "
        "Empty lines are left out; sentences may be of any length.",
    )
    latent.add_shared(parser)
    parser.add_argument("file", metavar="FILE", help="a UTF-8 text with a sentence on each line")
    parser.add_argument(
        "--posterior_sample", action="store_true", help="draw the latent from the posterior instead of taking its mean"
    )
    add_decoding(parser, greedy=True)
    options = parser.parse_args(arguments)
    latent.check_out(options.out)
    decoding = decoding_from(options)
    sentences = latent.read_sentences(options.file)
    model = latent.load_latent(options.ckpt)
    latent.check_sentences(model, sentences, options.file)
    made: list[dict] = []
    for first in range(0, len(sentences), latent.TOGETHER):
        piece = sentences[first : first + latent.TOGETHER]
        numbers = list(range(first, first + len(piece)))
        texts = [sentence.text for sentence in piece]
        use_mean = not options.posterior_sample
        made += latent.sample_rows(model.reconstruct(texts, decoding, use_mean=use_mean, sample_numbers=numbers))
    rows = [
        {"line": sentence.line, "original": sentence.text, **row} for sentence, row in zip(sentences, made, strict=True)
    ]
    latent.note_unknown(model, rows, "original")
    same = sum(row["text"].split() == row["original"].split() for row in rows)
    latent.print_table(
        ("line", "original", "reconstruction", "nats"), [(r["line"], r["original"], r["text"], r["nats"]) for r in rows]
    )
    print(f"{same} of {len(rows)} sentences came back word for word")
    latent.write_rows(options.out, rows)
    return 0
