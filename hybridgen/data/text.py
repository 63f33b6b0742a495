"""Text for training and evaluation under Lightning: found, encoded once, and batched."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning import LightningDataModule

from hybridgen import codecs
from hybridgen.codecs import BPECodec, CodecError, TextCodec
from hybridgen.codecs.checks import check_options
from hybridgen.data.batching import BatchLoader
from hybridgen.data.encoding import build_codec, encode_documents
from hybridgen.data.errors import DataError, check_choice, check_count, check_fraction
from hybridgen.data.files import cache_folder, read_json
from hybridgen.data.lanes import Lanes
from hybridgen.data.lines import Lines
from hybridgen.data.reading import Document
from hybridgen.data.sequence_data import must_be_there
from hybridgen.data.sources import PARTS, find_parts, find_source
from hybridgen.data.tokens import TokenCounts, TokenFile
from hybridgen.data.windows import ColdWindows


class TextData(LightningDataModule):
    """Text from anywhere, as batches for a language model or a text VAE.

    The codec is built on the training part. Text is encoded once into token files in the cache folder; later runs
    find them there. Batches are :class:`hybridgen.data.TextBatch`.

    Args:
        source: ``embedded`` (English that needs no download), ``ptb``, ``wikitext-2``, ``tinyshakespeare`` (after
            ``hybridgen data NAME``), a file, a folder with train.txt, valid.txt and test.txt, or a folder of text
            files. Default: ``embedded``, unless train, valid or test are given.
        train: File or folder of the training text, instead of source.
        valid: File or folder of the validation text.
        test: File or folder of the test text.
        pattern: Which files of a folder are text.
        valid_fraction: Part of an undivided file or folder that is for validation, 0 to 1.
        test_fraction: Part of an undivided file or folder that is for testing, 0 to 1.
        errors: What to do with bytes that are not UTF-8: ``strict`` stops, ``replace`` reads them as U+FFFD.
        codec: ``characters``, ``bytes``, ``words`` or ``bpe``, built on the training text; the path of a JSON file
            with a saved codec or of a Hugging Face tokenizer.json; or a saved codec itself, as a mapping.
        codec_options: Options of that codec, such as ``{max_size: 10000}`` for ``words``, or ``{eos: <|endoftext|>}``
            for a tokenizer.json.
        layout: ``lanes``: one stream, for truncated back-propagation with a carried state. ``lines``: independent lines
            in batches of similar length.
        batch_size: Lanes, or lines, of each process.
        bptt: Steps in a chunk of a lane: how far gradients go back.
        random_bptt: Whether chunks have random lengths around bptt, as in AWD-LSTM.
        max_bptt: Steps in the longest random chunk. Default: bptt + 10.
        reset_documents: Whether the state is fresh where a document starts.
        max_length: With ``lines``, leave out lines of more tokens than this. Default: none.
        valid_batch_size: Lanes (at most as many as there are tokens) or lines of each process in validation. Each lane
            starts from nothing: a few lanes are fast, one is exact.
        test_batch_size: Likewise for testing.
        evaluation_bptt: Steps in a chunk in validation and testing; decides the memory, not the result.
        cold_windows: Also test with a fresh state every so many tokens, once for each number in this list.
        cold_batch_size: Windows in a batch of each process when testing so.
        seed: Of the order of lines and of random chunks.
        cache_dir: Folder for token files and codecs. Default: ``~/.cache/hybridgen/tokens``.

    Raises:
        DataError: An option cannot be, or there is no such text. Whether text can be read, encoded and divided
            shows when it is first used.
    """

    def __init__(
        self,
        *,
        source: str | None = None,
        train: str | None = None,
        valid: str | None = None,
        test: str | None = None,
        pattern: str = "*.txt",
        valid_fraction: float = 0.05,
        test_fraction: float = 0.05,
        errors: Literal["strict", "replace"] = "strict",
        codec: str | dict[str, Any] = "characters",
        codec_options: dict[str, Any] | None = None,
        layout: Literal["lanes", "lines"] = "lanes",
        batch_size: int = 32,
        bptt: int = 128,
        random_bptt: bool = False,
        max_bptt: int | None = None,
        reset_documents: bool = True,
        max_length: int | None = None,
        valid_batch_size: int = 16,
        test_batch_size: int = 1,
        evaluation_bptt: int = 512,
        cold_windows: list[int] | None = None,
        cold_batch_size: int = 256,
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        check_choice(errors, "errors", ("strict", "replace"))
        check_choice(layout, "layout", ("lanes", "lines"))
        explicit = {"train": train, "valid": valid, "test": test}
        if source is not None and any(explicit.values()):
            raise DataError(f"source={source!r} and train, valid or test are both given: choose one way")
        if layout == "lines" and cold_windows:
            raise DataError("cold_windows are for layout='lanes': lines start from nothing anyway")
        if layout == "lanes" and max_length is not None:
            raise DataError("max_length is for layout='lines': lanes are cut by bptt, whatever the length of a line")
        check_fraction(valid_fraction, "valid_fraction")
        check_fraction(test_fraction, "test_fraction")
        if isinstance(codec, str) and not codec.endswith(".json"):
            check_choice(codec, "codec", codecs.names())
        if any(explicit.values()):
            self._documents = find_parts(**explicit, pattern=pattern)
        else:
            self._documents = find_source(
                source or "embedded", pattern=pattern, valid_fraction=valid_fraction, test_fraction=test_fraction
            )
        self.errors = errors
        self.layout = layout
        self.batch_size = batch_size
        self.bptt = bptt
        self.random_bptt = random_bptt
        self.max_bptt = max_bptt
        self.reset_documents = reset_documents
        self.max_length = max_length
        self.valid_batch_size = valid_batch_size
        self.test_batch_size = test_batch_size
        self.evaluation_bptt = evaluation_bptt
        self.cold_windows = list(cold_windows or [])
        self.cold_batch_size = cold_batch_size
        self.seed = seed
        self.cache_dir = cache_folder() / "tokens" if cache_dir is None else Path(cache_dir).expanduser()
        self._codec_choice = codec
        self._codec_options = dict(codec_options or {})
        self._tokens: dict[str, TokenFile] = {}
        for name in ("batch_size", "bptt", "valid_batch_size", "test_batch_size", "evaluation_bptt", "cold_batch_size"):
            check_count(getattr(self, name), name)
        for window in self.cold_windows:
            check_count(window, "cold_windows")

    @cached_property
    def codec(self) -> TextCodec:
        """What turns text into tokens and back: found, loaded or built when first asked for.

        Raises:
            CodecError: There is no such codec or option, or a saved one is damaged.
            DataError: The training text cannot be read, or there is none to build on.
        """
        choice, options = self._codec_choice, self._codec_options
        if isinstance(choice, Mapping) or choice.endswith(".json"):
            codec = _load_codec(choice, options)
        else:
            if self.layout == "lines":
                options = _with_eos(choice, options)
            codec = build_codec(
                choice, self._part("train"), cache_dir=self.cache_dir, options=options, errors=self.errors
            )
        return codec

    @property
    def vocab_size(self) -> int:
        """The number of token ids."""
        return self.codec.vocab_size

    @property
    def counts(self) -> dict[str, TokenCounts]:
        """What is in each part that there is: exact numbers of tokens, bytes, characters, documents or lines."""
        return {part: self.tokens(part).counts for part in PARTS if part in self._documents}

    @property
    def test_protocols(self) -> list[str]:
        """What each loader of :meth:`test_dataloader` evaluates: ``carried``, ``cold64`` ..., or ``lines``."""
        if self.layout == "lines":
            return ["lines"]
        return ["carried", *(f"cold{window}" for window in self.cold_windows)]

    def tokens(self, part: str) -> TokenFile:
        """Return ``train``, ``valid`` or ``test`` encoded, from the cache where it is there.

        Raises:
            DataError: There is no such part, or its text cannot be read or encoded.
        """
        if part not in self._tokens:
            self._tokens[part] = encode_documents(
                self._part(part),
                self.codec,
                cache_dir=self.cache_dir,
                unit="line" if self.layout == "lines" else "document",
                errors=self.errors,
            )
        return self._tokens[part]

    def prepare_data(self) -> None:
        """Encode every part, in one process of each machine."""
        for part in self._documents:
            self.tokens(part)

    def train_dataloader(self) -> BatchLoader:
        """Return this process's batches of the training text."""
        rank, world_size = self._processes()
        tokens = self.tokens("train")
        if self.layout == "lines":
            return Lines(
                tokens,
                batch_size=self.batch_size,
                rank=rank,
                world_size=world_size,
                seed=self.seed,
                max_length=self.max_length,
            )
        return Lanes(
            tokens,
            batch_size=self.batch_size,
            bptt=self.bptt,
            rank=rank,
            world_size=world_size,
            random_bptt=self.random_bptt,
            max_bptt=self.max_bptt,
            seed=self.seed,
            reset_documents=self.reset_documents,
        )

    def val_dataloader(self) -> list[BatchLoader]:
        """Return this process's batches of the validation text, or nothing if there is none.

        Raises:
            DataError: There is none, and to validate is what the trainer was started for.
        """
        wanted = "valid" in self._documents or must_be_there(self, "valid")
        return [self._evaluation("valid", self.valid_batch_size)] if wanted else []

    def test_dataloader(self) -> list[BatchLoader]:
        """Return this process's batches of the test text, one loader for each of :attr:`test_protocols`."""
        loaders = [self._evaluation("test", self.test_batch_size)]
        rank, world_size = self._processes()
        for window in self.cold_windows:
            loaders.append(
                ColdWindows(
                    self.tokens("test"),
                    window=window,
                    batch_size=self.cold_batch_size,
                    rank=rank,
                    world_size=world_size,
                    reset_documents=self.reset_documents,
                )
            )
        return loaders

    def predict_dataloader(self) -> list[BatchLoader]:
        """Return this process's batches of the test text, as the first of :meth:`test_dataloader` has them."""
        return [self._evaluation("test", self.test_batch_size)]

    def _evaluation(self, part: str, batch_size: int) -> BatchLoader:
        rank, world_size = self._processes()
        tokens = self.tokens(part)
        if self.layout == "lines":
            return Lines(
                tokens,
                batch_size=batch_size,
                rank=rank,
                world_size=world_size,
                shuffle=False,
                max_length=self.max_length,
            )
        return Lanes(
            tokens,
            batch_size=min(batch_size, max(1, tokens.counts.targets // world_size)),
            bptt=self.evaluation_bptt,
            rank=rank,
            world_size=world_size,
            reset_documents=self.reset_documents,
        )

    def _part(self, part: str) -> list[Document]:
        if part not in self._documents:
            raise DataError(f"there is no {part} text, only {' and '.join(self._documents)}: give {part}")
        return self._documents[part]

    def _processes(self) -> tuple[int, int]:
        """Return this process's rank and the number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def _with_eos(codec: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Add ``<eos>`` to a codec's options: lines end in it. ``words`` always has it."""
    specials = list(options.get("specials", ()))
    if codec == "words" or "eos" in specials:
        return dict(options)
    return {**options, "specials": [*specials, "eos"]}


def _load_codec(choice: str | Mapping[str, Any], options: Mapping[str, Any]) -> TextCodec:
    """Load a codec from its config, a file with it, or a tokenizer.json."""
    if isinstance(choice, Mapping):
        config = choice
    else:
        path = Path(choice).expanduser()
        if not path.is_file():
            raise DataError(f"there is no file {path}: give the path of a saved codec or of a tokenizer.json")
        config = read_json(path)
        if config is None:
            raise DataError(f"{path} is not a JSON object: give a saved codec or a tokenizer.json")
        if "codec" not in config:
            try:
                check_options(options, BPECodec.from_file, "bpe")
            except CodecError as error:
                raise DataError(f"codec_options of the tokenizer {path}: {error}") from None
            return BPECodec.from_file(path, **options)
    if options:
        raise DataError(f"codec_options={dict(options)!r} cannot change a saved codec: leave them out")
    codec = codecs.from_config(config)
    if not isinstance(codec, TextCodec):
        raise DataError(f"codec is a {codec.name!r} codec, not one of text: give one that TextData made")
    return codec
