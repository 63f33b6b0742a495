"""The command `hybridgen` in the tests' own process."""

import contextlib
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

from hybridgen.cli import main


def hybridgen(*arguments, cwd):
    """The command in this process, which spares seconds of importing."""
    out, err = io.StringIO(), io.StringIO()
    before, argv, environment = Path.cwd(), sys.argv, dict(os.environ)
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main([str(a) for a in arguments])
            except SystemExit as leaving:
                code = leaving.code or 0
    finally:
        os.chdir(before)
        sys.argv = argv
        os.environ.clear()
        os.environ.update(environment)
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())
