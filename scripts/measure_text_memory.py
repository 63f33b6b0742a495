"""Peak memory of encoding a text and reading it once in batches, for texts of several sizes.

    python scripts/measure_text_memory.py                               10 MB and 1 GB of text, characters, lanes
    python scripts/measure_text_memory.py --megabytes 10 100 --codec bpe --layout lines
    python scripts/measure_text_memory.py --file big.txt                a text of one's own

Each size is measured in a fresh process. Its peak is the largest resident memory (VmHWM) after the imports, mapped
pages of the token file included; "growth" is that less what the imports alone take. The text is made of the embedded
one with its lines in random order, and removed afterwards.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEGABYTE = 1_000_000


def write_text(path: Path, size: int) -> None:
    """Write `size` bytes of lines of the embedded text in random order."""
    from hybridgen.data.embedded import embedded_documents

    documents = embedded_documents()["train"]
    lines = [line.encode() + b"\n" for document in documents for line in document.text.splitlines()]
    generator = random.Random(0)
    written = 0
    with path.open("wb") as file:
        while written < size:
            block = b"".join(generator.choices(lines, k=10_000))[: size - written]
            file.write(block.decode(errors="ignore").encode().ljust(len(block), b"\n"))
            written += len(block)


def resident(name: str) -> float:
    """A line of /proc/self/status in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024 / MEGABYTE
    raise SystemExit(f"this system does not tell {name}: the measurement needs Linux")


def measure(path: str, cache: str, options: argparse.Namespace) -> dict[str, float]:
    """Encode the file and read an epoch, in this process."""
    import torch

    from hybridgen.data import TextData

    torch.set_num_threads(1)
    warm = TextData(codec="bytes", cache_dir=cache)
    next(iter(warm.train_dataloader()))
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is resident now
    before = resident("VmRSS")
    begin = time.perf_counter()
    data = TextData(
        train=path,
        cache_dir=cache,
        codec=options.codec,
        layout=options.layout,
        batch_size=options.batch_size,
        bptt=options.bptt,
    )
    tokens = data.counts["train"].tokens
    encoded = time.perf_counter()
    encoding_peak = resident("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")
    loader = data.train_dataloader()
    targets = sum(batch.num_targets for batch in loader)
    done = time.perf_counter()
    if targets != data.counts["train"].targets:
        raise SystemExit(f"{targets} targets were read of {data.counts['train'].targets}")
    return {
        "tokens": tokens,
        "before_mb": before,
        "encoding_peak_mb": encoding_peak,
        "reading_peak_mb": resident("VmHWM"),
        "encoding_seconds": encoded - begin,
        "reading_seconds": done - encoded,
        "batches": len(loader),
    }


def main() -> None:
    """Measure each size in a process of its own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[10, 1000], help="sizes of text, in 1e6 bytes")
    parser.add_argument("--file", help="measure this text instead")
    parser.add_argument("--codec", default="characters", help="characters, bytes, words or bpe")
    parser.add_argument("--layout", default="lanes", choices=["lanes", "lines"])
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--bptt", type=int, default=128)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--measure", nargs=2, metavar=("FILE", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure, options)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in [None] if options.file else options.megabytes:
            path = Path(options.file or Path(folder) / "text.txt")
            if size is not None:
                write_text(path, size * MEGABYTE)
            same = [f"--{name}={getattr(options, name)}" for name in ("codec", "layout", "batch_size", "bptt")]
            command = [sys.executable, __file__, *same, "--measure", str(path), str(Path(folder) / "cache")]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ).stdout
            rows.append({"text_mb": path.stat().st_size / MEGABYTE, **json.loads(answer)})
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"codec {options.codec}, layout {options.layout}, {options.batch_size} rows, peaks of resident memory in MB")
    print("    text        tokens  imports  encoding (growth)   reading (growth)   seconds to encode, to read")
    for row in rows:
        before = row["before_mb"]
        print(
            f"{row['text_mb']:8.0f} {row['tokens']:13,} {before:8.0f}"
            f" {row['encoding_peak_mb']:9.0f} {row['encoding_peak_mb'] - before:8.0f}"
            f" {row['reading_peak_mb']:10.0f} {row['reading_peak_mb'] - before:8.0f}"
            f" {row['encoding_seconds']:16.1f} {row['reading_seconds']:9.1f}"
        )


if __name__ == "__main__":
    main()
