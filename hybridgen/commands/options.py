"""An argument parser whose errors are one sentence that names the closest option."""

import argparse
import difflib
import re
import sys
from typing import NoReturn


def one_sentence(message: str) -> str:
    """The sentence that says what is wrong, out of a message that also tells how it was found.

    jsonargparse wraps the error of a class in a list of everything it tried, and prints the whole configuration.
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if "Given value type" in message:
        tried = [
            line[2:] for line in lines if line.startswith("- ") and not line.startswith("- Expected a <class 'None")
        ]
        lines = tried[-1:] or lines[:1]
    return re.sub(r'^Parser key "[^"]*": ', "", " ".join(lines))


class Parser(argparse.ArgumentParser):
    """Errors are one sentence, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print one sentence and leave."""
        unknown = message.partition("unrecognized arguments: ")[2].split()
        if unknown:
            known = [option for action in self._actions for option in action.option_strings]
            close = difflib.get_close_matches(unknown[0].split("=")[0], known, 1)
            message = f"there is no option {unknown[0]!r}" + (f": did you mean {close[0]!r}?" if close else "")
        print(f"hybridgen: error: {message}", file=sys.stderr)
        raise SystemExit(2)
