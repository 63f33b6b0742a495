"""Sounds from a trained sequence GAN, in a page: what `hybridgen sample` does, from Python.

python scripts/generate_audio.py runs/fsdd/0/checkpoints/best.ckpt sounds --label 7
"""

import argparse

import hybridgen
from hybridgen.data import write_audio


def main() -> None:
    """Write a few wav files, of one class or of every class that the model knows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a checkpoint of a SequenceGAN of sounds that `hybridgen fit` wrote")
    parser.add_argument("out", nargs="?", default="sounds", help="a new folder for wav files and their manifest")
    parser.add_argument("--label", help="class of all of them (default: one of each class)")
    arguments = parser.parse_args()
    try:
        model = hybridgen.load(arguments.checkpoint)
        codec = model.codec
        if not hasattr(codec, "sample_rate"):
            parser.error(f"{arguments.checkpoint} holds a {type(model).__name__} that generates no sounds")
        classes = [arguments.label] * 5 if arguments.label is not None else list(codec.labels) or [None] * 5

        # Waveforms (N,) in -1 to 1; sample 3 of seed 7 is the same sound whatever stands beside it.
        sounds = model.generate(len(classes), labels=None if classes[0] is None else classes, seed=7)
        paths = write_audio(arguments.out, sounds, sample_rate=codec.sample_rate, labels=classes)
    except ValueError as error:
        parser.error(str(error))
    for path, sound in zip(paths, sounds, strict=True):
        print(f"{path}  {len(sound) / codec.sample_rate:.2f} s")


if __name__ == "__main__":
    main()
