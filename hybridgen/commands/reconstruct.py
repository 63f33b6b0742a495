"""`hybridgen reconstruct`: sentences, or sequences of anything, through the latent and back."""

from hybridgen.commands import latent, sequence_latent
from hybridgen.commands.decoding import add_decoding, decoding_from
from hybridgen.commands.options import Parser, check_out_file
from hybridgen.commands.sequence_files import holds_sequences


def run(arguments: list[str]) -> int:
    """Print every sentence of a file beside what the model makes of its latent.

    Raises:
        ValueError: if the checkpoint, the file or an option does not fit; the message is for the user.
    """
    parser = Parser(
        prog="hybridgen reconstruct",
        description="Encode every sentence of a file and decode it again, greedily unless --do_sample is given. "
        "Empty lines are left out; sentences may be of any length. Of a model of series, sounds, piano rolls, images "
        "or sketches: sequences of a file or of the run's data, each step the likeliest unless --do_sample is given; "
        "--out is a folder, which gets the folders original and reconstruction.",
    )
    latent.add_shared(parser)
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="a UTF-8 text with a sentence on each line, or a file of sequences"
    )
    parser.add_argument(
        "--posterior_sample", action="store_true", help="draw the latent from the posterior instead of taking its mean"
    )
    add_decoding(parser, greedy=True)
    sequence_latent.add_options(parser)
    options = parser.parse_args(arguments)
    if holds_sequences(options.ckpt):
        return sequence_latent.reconstruct(options)
    sequence_latent.refuse_for_text(options)
    if options.file is None:
        raise ValueError("a model of text reconstructs sentences: give the FILE that has them")
    check_out_file(options.out)
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
