"""`hybridgen data`: get a public data set."""

from hybridgen.commands.options import Parser


def run(arguments: list[str]) -> int:
    """Download a set, or copy it from a folder, with its checksum verified."""
    from hybridgen.data import PUBLIC_SETS, fetch

    parser = Parser(prog="hybridgen data", description="Download a public data set, verified by its checksum.")
    parser.add_argument("set", nargs="?", help=f"one of {', '.join(PUBLIC_SETS)}; without it, they are listed")
    parser.add_argument("--from", dest="copy_from", metavar="DIR", help="copy from this folder instead of downloading")
    parser.add_argument("--to", metavar="DIR", help="folder to put it in, instead of the cache")
    options = parser.parse_args(arguments)
    if options.set is None:
        for name, public in PUBLIC_SETS.items():
            print(f"{name:16}{public.title}\n{'':16}{public.licence}")
        return 0
    fetch(options.set, copy_from=options.copy_from, to=options.to)
    return 0
