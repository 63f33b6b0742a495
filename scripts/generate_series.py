"""Series from a trained sequence GAN, in a page: what `hybridgen sample` does, from Python.

python scripts/generate_series.py runs/sines/0/checkpoints/best.ckpt new.csv
"""

import argparse

import hybridgen
from hybridgen.data import write_series


def main() -> None:
    """Write ten series in the units of the training data, twice as long as those, and say what they look like."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a checkpoint of a SequenceGAN that `hybridgen fit` wrote")
    parser.add_argument("out", nargs="?", default="series.csv", help="a .csv, .tsv, .npz or .parquet file")
    arguments = parser.parse_args()
    try:
        model = hybridgen.load(arguments.checkpoint)
        if getattr(model.codec, "name", None) != "series":
            parser.error(f"{arguments.checkpoint} holds a {type(model).__name__} that generates no series")

        # Sample 3 of seed 7 is the same series whatever stands beside it.
        series = model.generate(10, length=2 * model.max_length, seed=7)
        path = write_series(arguments.out, series, model.codec)
    except ValueError as error:
        parser.error(str(error))
    print(f"{len(series)} series written to {path}")

    # The same as tensors, (B, T, F) in the codec's scale: what the functions of hybridgen.evaluation.series take.
    features = model.generate_features(10, seed=7).values
    print(
        f"as the model sees them: {tuple(features.shape)}, mean {features.mean():.3f}, deviation {features.std():.3f}"
    )


if __name__ == "__main__":
    main()
