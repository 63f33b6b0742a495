"""`hybridgen report`: one HTML file about runs."""

import sys

from hybridgen.commands.options import Parser, at_home, read_text

DESCRIPTION = """
Write one HTML file about runs that needs no server, no network and no other file: what was trained on what, curves,
samples as they improved, pictures and sounds, latents, what hidden units read, results beside published ones, and how
to do it again. Several runs are laid side by side. It reads run folders alone.
"""


def run(arguments: list[str]) -> int:
    """Write the page and say where it is.

    Raises:
        ValueError: if there is no such run, or the page cannot be written; the message is for the user.
    """
    parser = Parser(prog="hybridgen report", description=DESCRIPTION)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run folder; runs/NAME is its newest version")
    parser.add_argument("--out", default="report.html", metavar="FILE", help="the page (default report.html)")
    parser.add_argument(
        "--text", metavar="FILE", help="text that hidden units and latents are shown on (default: the model writes it)"
    )
    parser.add_argument(
        "--stages", type=int, default=12, metavar="N", help="moments of training that samples are shown of (default 12)"
    )
    parser.add_argument("--no_model", action="store_true", help="load no checkpoint: no hidden units, no latent map")
    options = parser.parse_args(arguments)
    if options.stages < 1:
        raise ValueError(f"--stages is {options.stages}: give at least 1")
    out = at_home(options.out, "--out")
    if out.is_dir() or not out.resolve().parent.is_dir():
        what = f"{out} is a folder" if out.is_dir() else f"there is no folder {out.parent}"
        raise ValueError(f"--out: {what}: give the path of a file")
    text = None if options.text is None else read_text(options.text, "--text")

    from hybridgen.report.page import write_report
    from hybridgen.report.run_folder import open_run

    runs = [open_run(each) for each in options.runs]
    folders = [each.folder.resolve() for each in runs]
    twice = next((each for i, each in enumerate(folders) if each in folders[:i]), None)
    if twice is not None:
        raise ValueError(f"the run {twice} is given twice: give each once")
    write_report(runs, out, text=text, stages=options.stages, look_inside=not options.no_model)
    print(f"{out} written ({out.stat().st_size / 1e6:.1f} MB): open it in a browser", file=sys.stderr)
    return 0
