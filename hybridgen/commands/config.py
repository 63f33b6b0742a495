"""`hybridgen config`: list, show, copy and check configurations."""

import sys
from pathlib import Path

from hybridgen import experiments
from hybridgen.commands.options import Parser
from hybridgen.data.files import whole_file


def run(arguments: list[str]) -> int:
    """Do what the first word says; 2 if a configuration that was checked is wrong."""
    parser = Parser(
        prog="hybridgen config",
        description="The configurations that come with the toolkit, and any others. A NAME is one that `ls` shows, or "
        "its last part where that is no other's; `hybridgen fit --config NAME` trains it.",
    )
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ls | cat | cp | validate", parser_class=Parser
    )
    actions.add_parser("ls", help="list names and what they are")
    show = actions.add_parser("cat", help="print one")
    copy = actions.add_parser("cp", help="copy one, to change it")
    check = actions.add_parser("validate", help="check files, without training and without data")
    for each in (show, copy):
        each.add_argument("name", metavar="NAME", help="a name of `hybridgen config ls`, or a file")
    copy.add_argument("destination", metavar="DEST", nargs="?", default=".", help="a file or a folder (default: here)")
    copy.add_argument("--force", action="store_true", help="replace a file that is there")
    check.add_argument(
        "files", metavar="FILE", nargs="+", help="a configuration to fit (or a run's config.yaml), or NAME"
    )
    options = parser.parse_args(arguments)
    if options.action == "ls":
        _list()
    elif options.action == "cat":
        print(experiments.find(options.name, option="NAME").read_text(encoding="utf-8"), end="")
    elif options.action == "cp":
        _copy(options.name, options.destination, force=options.force)
    else:
        return _validate(options.files)
    return 0


def _list() -> None:
    known = experiments.names()
    width = max(map(len, known)) + 2
    for name in known:
        print(f"{name:{width}}{experiments.description(name)}")


def _copy(name: str, destination: str, *, force: bool) -> None:
    source, target = experiments.find(name, option="NAME"), Path(destination)
    if target.is_dir():
        target = target / source.name
    if not target.resolve().parent.is_dir():
        raise ValueError(f"DEST: there is no folder {target.parent}: make it first")
    if target.exists() and not force:
        raise ValueError(f"DEST: {target} exists: give another name, or --force to replace it")
    contents = source.read_bytes()  # outside, so that what cannot be read is not told of DEST
    try:
        with whole_file(target) as (file, _):
            file.write(contents)
    except OSError as error:
        raise ValueError(f"DEST: {target} cannot be written ({error.strerror})") from None
    print(f"{target} written: hybridgen fit --config {target}", file=sys.stderr)


def _validate(files: list[str]) -> int:
    """Print ``FILE: OK`` or one sentence for each; every file is looked at, whatever is wrong with another."""
    from hybridgen.commands.checking import check

    wrong = 0
    for given in files:
        try:
            missing = check(experiments.find(given, option="FILE"))
        except (ValueError, FileNotFoundError) as error:
            wrong += 1
            print(f"{given}: {str(error).removeprefix('FILE: ').removeprefix('--config: ')}")
        else:
            print(f"{given}: OK" + (f", but {missing}" if missing else ""))
    return 2 if wrong else 0
