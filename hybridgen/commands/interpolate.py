"""`hybridgen interpolate`: the sentences, or sequences of anything, between two."""

from hybridgen.commands import latent, sequence_latent
from hybridgen.commands.decoding import add_decoding, decoding_from
from hybridgen.commands.options import Parser, check_number, check_out_file
from hybridgen.commands.sequence_files import holds_sequences

#: Nobody looks at more, and a model of sequences makes them all at once.
MOST_STEPS = 10_000


def run(arguments: list[str]) -> int:
    """Print what the model writes at equal steps of the way from one sentence's latent to another's.

    Raises:
        ValueError: if the checkpoint, what stands between, or an option does not fit; the message is for the user.
    """
    parser = Parser(
        prog="hybridgen interpolate",
        description="Decode latents on the way from one sentence to another, greedily unless --do_sample is given. "
        "The first and the last are the two sentences' own reconstructions. Of a model of series, sounds, piano rolls, "
        "images or sketches: START and END are files, or numbers of sequences of the run's data; --out is the file or "
        "folder that gets them all.",
    )
    latent.add_shared(parser)
    parser.add_argument("start", metavar="START", help="the sentence (or sequence) where it begins")
    parser.add_argument("end", metavar="END", help="where it ends")
    parser.add_argument("--steps", type=int, default=8, help="sentences, both ends included (default 8)")
    parser.add_argument(
        "--path",
        choices=("slerp", "lerp"),
        default="slerp",
        help="slerp turns by equal angles and stays where the prior has its mass; lerp is the straight line",
    )
    add_decoding(parser, greedy=True)
    sequence_latent.add_options(parser)
    options = parser.parse_args(arguments)
    check_number("--steps", options.steps, 2, most=MOST_STEPS, why=", the two ends")
    if holds_sequences(options.ckpt):
        return sequence_latent.interpolate(options)
    sequence_latent.refuse_for_text(options)
    start = latent.check_sentence(options.start, "the first sentence")
    end = latent.check_sentence(options.end, "the second sentence")
    check_out_file(options.out)
    decoding = decoding_from(options)
    model = latent.load_latent(options.ckpt)

    from hybridgen.generation.latent_paths import path_between

    ends = [
        latent.encode_one(model, text, what)
        for text, what in ((start, "the first sentence"), (end, "the second sentence"))
    ]
    latent.note_unknown(model, [{"text": start}, {"text": end}], "text")
    points = path_between(*ends, options.steps, options.path)
    rows = [
        {"step": step, "fraction": step / (options.steps - 1), "path": options.path, **row}
        for step, row in enumerate(latent.decode(model, points, decoding))
    ]
    print(f"from  {start}\nto    {end}\n")
    latent.print_table(("step", "text", "nats"), [(r["step"], r["text"], r["nats"]) for r in rows])
    latent.write_rows(options.out, rows)
    return 0
