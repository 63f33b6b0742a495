"""Text from a trained language model, in a page: what `hybridgen sample` does, from Python.

python scripts/generate_text.py runs/embedded/0/checkpoints/best.ckpt "The "
"""

import argparse

import hybridgen
from hybridgen.generation import DecodingOptions


def main() -> None:
    """Print a few continuations, one of them as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a checkpoint that `hybridgen fit` wrote")
    parser.add_argument("prompt", nargs="?", default="The ")
    arguments = parser.parse_args()
    try:
        model = hybridgen.load(arguments.checkpoint)
    except ValueError as error:
        parser.error(str(error))

    # Three samples at once. Sample number 2 of seed 7 is the same text whatever stands beside it.
    options = DecodingOptions(max_new_tokens=120, temperature=0.8, top_p=0.95, seed=7)
    samples = model.generate([arguments.prompt] * 3, options)
    for text, nats in zip(samples.texts, samples.log_probs.sum(1), strict=True):
        print(f"{arguments.prompt}{text}\n[{-float(nats):.1f} nats]\n")

    # The most probable continuation by beam search.
    beams = DecodingOptions(max_new_tokens=60, num_beams=4, do_sample=False)
    print(f"most probable: {arguments.prompt}{model.search(arguments.prompt, beams)[0]['text']}\n")

    # One more, token by token.
    print(arguments.prompt, end="")
    for event in model.generate_stream([arguments.prompt], options, sample_numbers=[3]):
        print(event.texts[0], end="", flush=True)
    print()


if __name__ == "__main__":
    main()
