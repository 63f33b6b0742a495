"""`hybridgen export`: a trained model as files that need no trainer."""

import sys
from pathlib import Path

from hybridgen.commands.options import Parser, check_out_folder

FORMATS = ("safetensors", "int8", "torch", "onnx")

DESCRIPTION = """
Write a trained model in another form. safetensors: the weights with their configuration as JSON, for every model;
hybridgen.load reads the folder, and hybridgen.export.load_network reads a language model's by torch alone. int8: the
same with every matrix as int8 and a scale for each of its rows, about a quarter of the size, and a loss that changes a
little; hybridgen.export.int8_steps then takes a language model's steps on a CPU by int8 products. torch and onnx, for
language models: graphs of one step with its state and of a whole sequence, batch size and length free, each checked
against the model before it is written; export.json tells inputs, outputs, initial state and codec.
"""


def run(arguments: list[str]) -> int:
    """Export and say what was written.

    Raises:
        ValueError: if the checkpoint, the model, the form or the folder does not fit; the message is for the user.
    """
    parser = Parser(prog="hybridgen export", description=DESCRIPTION)
    parser.add_argument("--ckpt", required=True, metavar="FILE", help="a checkpoint that fit wrote")
    parser.add_argument("--format", required=True, choices=FORMATS, help="what to write")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where to; made where it is not there")
    options = parser.parse_args(arguments)
    folder = Path(options.out).expanduser()
    check_out_folder(options.out)

    from hybridgen.export import plain_network, write_graphs, write_weights
    from hybridgen.loading import load

    model = load(options.ckpt)
    if options.format in ("safetensors", "int8"):
        written = [str(path) for path in write_weights(model, folder, int8=options.format == "int8")]
    else:
        found = write_graphs(plain_network(model), folder, form=options.format)
        written = [str(folder / name) for name in (*found["files"].values(), "export.json")]
        for name, difference in found["largest_difference"].items():
            told = "not checked: onnxruntime is not installed" if difference is None else f"within {difference:.1g}"
            print(f"{name}: {told}", file=sys.stderr)
    print("\n".join(written))
    return 0
