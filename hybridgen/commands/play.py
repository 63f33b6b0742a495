"""`hybridgen play`: a page in the browser to play with trained models."""

import signal
import sys
import tempfile
from pathlib import Path

from hybridgen.commands.options import Parser

DESCRIPTION = """
A page in the browser to play with trained models. A language model continues a prompt while you watch; a text VAE
writes what lies between two sentences; sounds, piano rolls, series, images and sketches are made by label, seed and
latent, to hear, to see and to keep. Everything happens on this machine: the page loads nothing from anywhere else, and
nobody else can open it unless --host lets them. Ctrl-C ends it.
"""
PORT = 7860


def run(arguments: list[str]) -> int:
    """Serve the page until it is stopped."""
    parser = Parser(prog="hybridgen play", description=DESCRIPTION)
    parser.add_argument(
        "--ckpt",
        required=True,
        metavar="FILE",
        nargs="+",
        action="extend",
        help="a checkpoint that fit wrote; several give a tab each",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1: this machine)")
    parser.add_argument("--port", type=int, default=PORT, help=f"port; 0 takes any that is free (default {PORT})")
    opening = parser.add_mutually_exclusive_group()
    opening.add_argument("--open", action="store_true", help="open the page in the browser of this machine")
    only = "only print its address (default)"
    opening.add_argument("--no-browser", dest="open", action="store_false", default=False, help=only)
    options = parser.parse_args(arguments)

    from hybridgen.play.address import bind, url_of

    # uvicorn ends on SIGTERM and then hands it on: the folder must be removed then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with bind(options.host, options.port) as bound, tempfile.TemporaryDirectory(prefix="hybridgen-play-") as made:
        from hybridgen.play.serving import prepare, serve

        folder = Path(made).resolve()
        prepare(folder / "shown")

        from hybridgen.play.opened import open_models
        from hybridgen.play.page import build

        page = build(open_models(options.ckpt), folder / "made")
        address = url_of(bound, options.host)

        def ready() -> None:
            print(f"the page is at {address} (Ctrl-C ends it)", flush=True)
            if options.open:
                import threading
                import webbrowser

                # A browser of the terminal keeps its caller waiting, and would wait for this very server.
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        serve(page, bound, options.host, folder, ready)
    return 0
