"""Between two sentences by a text VAE, in a page: what `hybridgen interpolate` and its siblings do, from Python.

python scripts/interpolate_text.py runs/ptb/0/checkpoints/best.ckpt "the company said" "he is a man"
"""

import argparse

import hybridgen
from hybridgen.generation import DecodingOptions
from hybridgen.generation.latent_paths import nearest, slerp


def main() -> None:
    """Print reconstructions, the sentences between two, and samples from the prior with their neighbour."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a checkpoint of a TextVAE that `hybridgen fit` wrote")
    parser.add_argument("start", nargs="?", default="the company said it will sell its shares")
    parser.add_argument("end", nargs="?", default="he is one of the best people in the world")
    arguments = parser.parse_args()
    try:
        model = hybridgen.load(arguments.checkpoint)
    except ValueError as error:
        parser.error(str(error))
    if not hasattr(model, "encode"):
        parser.error(f"{arguments.checkpoint} holds a {type(model).__name__}, which has no latent space of sentences")

    # A sentence becomes a distribution over latents, (2, latent_size); its mean is the sentence's place.
    sentences = [arguments.start, arguments.end]
    means = model.encode(sentences).mean

    # Greedy decoding: the most probable token each time. The first and last row are the two reconstructions.
    greedy = DecodingOptions(max_new_tokens=60, do_sample=False)
    print("between the two")
    for nats, text in rows(model.decode(slerp(means[0], means[1], 8), greedy)):
        print(f"{nats:7.1f} nats  {text}")

    # The most probable by beam search instead.
    beams = DecodingOptions(max_new_tokens=60, do_sample=False, num_beams=4)
    print("\nreconstructed by beam search")
    for sentence, (_, text) in zip(sentences, rows(model.decode(means, beams)), strict=True):
        print(f"  {sentence}\n  {text}")

    # New sentences: latents from the prior. Sample 2 of seed 7 is the same whatever stands beside it.
    latents = model.sample_prior(4, seed=7)
    samples = rows(model.decode(latents, DecodingOptions(max_new_tokens=60, temperature=0.8, seed=7)))
    print("\nfrom the prior, and which of the two sentences is nearer")
    for latent, (_, text) in zip(latents, samples, strict=True):
        closest = int(nearest(latent, means, 1).indices)
        print(f"  {text}  [{'start' if closest == 0 else 'end'}]")


def rows(samples) -> list[tuple[float, str]]:
    """Nats and text of each sample."""
    return list(zip((-samples.log_probs.sum(1)).tolist(), samples.texts, strict=True))


if __name__ == "__main__":
    main()
