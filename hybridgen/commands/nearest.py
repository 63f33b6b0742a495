"""`hybridgen nearest`: the sentences of a corpus that a model holds most similar to one."""

from hybridgen.commands import latent
from hybridgen.commands.options import Parser, check_out_file


def run(arguments: list[str]) -> int:
    """Print the sentences of a corpus whose latents are nearest to that of a sentence.

    Raises:
        ValueError: if the checkpoint, the corpus or an option does not fit; the message is for the user.
    """
    parser = Parser(
        prog="hybridgen nearest", description="The sentences of a corpus whose latents are nearest to a sentence's."
    )
    latent.add_shared(parser)
    parser.add_argument("sentence", metavar="SENTENCE", help="what to be near to")
    parser.add_argument("--corpus", required=True, metavar="FILE", help="a UTF-8 text with a sentence on each line")
    parser.add_argument("--k", type=int, default=5, help="how many (default 5)")
    parser.add_argument(
        "--metric", choices=("cosine", "euclidean"), default="cosine", help="of two latents (default cosine)"
    )
    options = parser.parse_args(arguments)
    if options.k < 1:
        raise ValueError(f"--k is {options.k}: give at least 1")
    query = latent.check_sentence(options.sentence, "the sentence")
    check_out_file(options.out)
    sentences = latent.read_sentences(options.corpus, option="--corpus")
    if options.k > len(sentences):
        raise ValueError(f"--k is {options.k} but {options.corpus} has {len(sentences)} sentences: give a smaller one")
    model = latent.load_latent(options.ckpt)

    from hybridgen.generation.latent_paths import nearest

    corpus = latent.encode(model, sentences, options.corpus)
    found = nearest(latent.encode_one(model, query, "the sentence"), corpus, options.k, metric=options.metric)
    latent.note_unknown(model, [{"text": query}], "text")
    rows = [
        {"rank": rank, "line": sentences[i].line, "distance": distance, "metric": options.metric,
         "text": sentences[i].text}
        for rank, (i, distance) in enumerate(zip(found.indices.tolist(), found.distances.tolist(), strict=True), 1)
    ]  # fmt: skip
    latent.print_table(
        ("rank", "line", options.metric, "text"), [(r["rank"], r["line"], r["distance"], r["text"]) for r in rows]
    )
    latent.write_rows(options.out, rows)
    return 0
