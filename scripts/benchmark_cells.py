"""Time and memory of the cells beside torch.nn, side by side in one process.

    python scripts/benchmark_cells.py                     the table of ratios (about 5 minutes on 2 cores)
    python scripts/benchmark_cells.py --quick             one shape, few rounds
    python scripts/benchmark_cells.py --products          oneDNN against torch.mm, the rule of cells/matmul.py
    python scripts/benchmark_cells.py --recurrence        loop against scan, the rule of cells/recurrence.py

An entry and its baseline are run in turn, so that whatever else the machine does hits both alike; a ratio is the
median over rounds of the entry's time over its baseline's time in the same round.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from hybridgen import cells
from hybridgen.cells import matmul, recurrence
from hybridgen.cells.stepping import prepare_steps

SHAPES = [(20, 35, 200), (20, 35, 650), (32, 128, 256), (64, 70, 512)]
BASELINES = {"nn.LSTM": nn.LSTM, "nn.GRU": nn.GRU, "nn.RNN": nn.RNN}
# Each entry: its baseline, the ratio aimed at (None: shown for information), and how it is built and called.
ENTRIES: dict[str, tuple[str, float | None]] = {
    "lstm": ("nn.LSTM", 1.05),
    "gru": ("nn.GRU", 1.0),
    "rnn": ("nn.RNN", 1.05),
    "layernorm_lstm": ("nn.LSTM", 1.35),
    "peephole_lstm": ("nn.LSTM", 1.35),
    "lstm + zoneout": ("nn.LSTM", 1.35),
    "lstm + weight_drop": ("nn.LSTM", 1.35),
    "lstm + resets": ("nn.LSTM", 1.35),
    "lstm + lengths": ("nn.LSTM", 1.35),
    "mingru": ("nn.LSTM", 0.5),
    "minlstm": ("nn.LSTM", 0.5),
    "rglru": ("nn.LSTM", 0.5),
    "sru": ("nn.LSTM", 0.7),
    "qrnn": ("nn.LSTM", 0.7),
    "indrnn": ("nn.RNN", None),
    "mgu": ("nn.GRU", None),
    "layernorm_gru": ("nn.GRU", None),
    "mogrifier_lstm": ("nn.LSTM", None),
    "slstm": ("nn.LSTM", None),
    "mlstm": ("nn.LSTM", None),
}


def build(entry: str, shape: tuple[int, int, int]) -> Callable[[], None]:
    """One forward and backward pass of an entry."""
    batch_size, steps, width = shape
    inputs = torch.randn(batch_size, steps, width, requires_grad=True)
    grad = torch.randn(batch_size, steps, width)
    if entry in BASELINES:
        module = BASELINES[entry](width, width, batch_first=True)
        return lambda: module(inputs)[0].backward(grad)
    name, _, extra = entry.partition(" + ")
    options, call = {}, {}
    if name == "mlstm":
        options["cell_options"] = {"num_heads": 4 if width % 4 == 0 else 2}
    if extra == "zoneout":
        options |= {"zoneout": 0.1, "zoneout_cell": 0.1}
    elif extra == "weight_drop":
        options["weight_drop"] = 0.5
    elif extra == "resets":
        # A document border about every 50 elements.
        call["resets"] = torch.rand(batch_size, steps) < 0.02
    elif extra == "lengths":
        call["lengths"] = torch.randint(steps // 2, steps + 1, (batch_size,))
    stack = cells.Stack(name, width, width, **options)
    return lambda: stack(inputs, **call)[0].backward(grad)


def build_step(entry: str, width: int) -> Callable[[], None]:
    """One element, batch 1, the state carried on: ours as generation takes it, by steps that are prepared once."""
    x = torch.randn(1, width)
    if entry in BASELINES:
        module = BASELINES[entry](width, width, batch_first=True).eval()
        x, state = x.unsqueeze(1), None
    else:
        options = {"cell_options": {"num_heads": 4}} if entry == "mlstm" else {}
        stack = cells.Stack(entry, width, width, **options).eval()
        module, state = prepare_steps(stack), stack.initial_state(1)

    def run() -> None:
        nonlocal state
        _, state = module(x, state)

    return run


def alternate(runs: dict[str, Callable[[], None]], rounds: int, inner: int = 1) -> dict[str, list[float]]:
    """Seconds of each run in each round, the runs taken in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        for _ in range(3 * inner):
            run()
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(inner):
                run()
            seconds[name].append((time.perf_counter() - start) / inner)
    return seconds


def ratio(seconds: dict[str, list[float]], entry: str, baseline: str) -> float:
    """Median over rounds of entry / baseline."""
    return statistics.median(a / b for a, b in zip(seconds[entry], seconds[baseline], strict=True))


def peak_memory(entry: str, shape: tuple[int, int, int]) -> float | None:
    """MiB that one forward and backward pass adds to a fresh process at its peak (Linux only)."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    command = [sys.executable, __file__, "--memory-of", entry, "--shapes", ",".join(map(str, shape))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_memory(entry: str, shape: tuple[int, int, int]) -> None:
    """The child of :func:`peak_memory`."""
    print_peak(build(entry, (2, 3, shape[2])), build(entry, shape))


def print_peak(before: Callable[[], None], run: Callable[[], None]) -> None:
    """Print the MiB that a run adds at its peak, after one that loads code and kernels (Linux only)."""

    def resident(key: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))

    before()
    begun = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # makes the peak start anew
    run()
    print(resident("VmHWM") - begun)


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        model = next((x.split(":")[1].strip() for x in info.read_text().splitlines() if "model name" in x), model)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "onednn": matmul.uses_onednn(torch.empty(512, 512), torch.empty(512, 512)),
    }


def sequences(shapes: list[tuple[int, int, int]], entries: list[str], rounds: int, memory: bool) -> list[dict]:
    """Forward and backward at every shape; prints the table."""
    rows = []
    for shape in shapes:
        print(f"\nforward + backward, (B, T, H) = {shape}, float32")
        print(f"{'':20}{'ms':>8}{'ratio':>8}  {'of':8}{'goal':>6}{'peak MiB':>10}")
        for name in [*BASELINES, *entries]:
            baseline, goal = ENTRIES.get(name, (name, None))
            torch.manual_seed(0)
            seconds = alternate({n: build(n, shape) for n in (baseline, name)}, rounds)
            row = {
                "entry": name,
                "shape": shape,
                "milliseconds": round(statistics.median(seconds[name]) * 1e3, 3),
                "baseline": baseline,
                "ratio": round(ratio(seconds, name, baseline), 3),
                "goal": goal,
                "peak_mib": round(peak, 1) if memory and (peak := peak_memory(name, shape)) is not None else None,
            }
            rows.append(row)
            print(
                f"{name:20}{row['milliseconds']:8.2f}{row['ratio']:8.2f}  {baseline:8}"
                f"{'' if goal is None else goal:>6}{'' if row['peak_mib'] is None else row['peak_mib']:>10}"
            )
    return rows


def steps(entries: list[str], width: int, rounds: int) -> list[dict]:
    """One step at batch 1; prints the table."""
    names = [*BASELINES, *(entry for entry in entries if " + " not in entry)]
    print(f"\none step, batch 1, H = {width}, float32")
    print(f"{'':20}{'us':>8}{'ratio to nn.LSTM':>18}")
    rows = []
    for name in names:
        with torch.inference_mode():
            seconds = alternate({n: build_step(n, width) for n in ("nn.LSTM", name)}, rounds, inner=50)
        row = {
            "entry": name,
            "microseconds": round(statistics.median(seconds[name]) * 1e6, 1),
            "ratio": round(ratio(seconds, name, "nn.LSTM"), 3),
        }
        rows.append(row)
        print(f"{name:20}{row['microseconds']:8.1f}{row['ratio']:18.2f}")
    return rows


def products(rounds: int) -> list[dict]:
    """oneDNN over torch.mm for the thin products of a step and the long ones of a sequence."""
    rows = []
    print("\n(M, K) @ (K, N), float32: time of oneDNN over time of torch.mm")
    for m, k, n in [
        (1, 256, 1024),
        (4, 256, 1024),
        (20, 200, 800),
        (20, 650, 2600),
        (32, 256, 1024),
        (64, 512, 2048),
        (700, 200, 800),
        (4480, 512, 2048),
    ]:
        a, b = torch.randn(m, k), torch.randn(k, n)

        def by_onednn(a: Tensor = a, b: Tensor = b) -> None:
            torch.ops.mkldnn._linear_pointwise.default(a, b.t(), None, "none", [], "")

        runs = {"onednn": by_onednn, "mm": lambda a=a, b=b: torch.mm(a, b)}
        seconds = alternate(runs, rounds, inner=20)
        rows.append({"m": m, "k": k, "n": n, "ratio": round(ratio(seconds, "onednn", "mm"), 3)})
        print(f"{m:6} x {k:4} x {n:5}   {rows[-1]['ratio']:.2f}   the rule: {matmul.uses_onednn(a, b)}")
    return rows


def recurrences(rounds: int) -> list[dict]:
    """The associative scan over the loop, forward and backward."""
    rows = []
    print("\ns[t] = a[t] s[t-1] + b[t], forward + backward: time of the scan over time of the loop")
    for shape in [*SHAPES, (8, 1024, 256), (1, 4096, 256)]:
        a = torch.rand(shape, requires_grad=True)
        b = torch.randn(shape, requires_grad=True)
        initial, grad = torch.zeros(shape[0], shape[2]), torch.randn(shape)
        runs = {
            way: lambda way=way, a=a, b=b, initial=initial, grad=grad: recurrence.linear_recurrence(
                a, b, initial, way
            ).backward(grad)
            for way in ("loop", "scan")
        }
        seconds = alternate(runs, rounds)
        rows.append({"shape": shape, "ratio": round(ratio(seconds, "scan", "loop"), 3)})
        print(f"{shape!s:18} {rows[-1]['ratio']:.2f}")
    return rows


def markdown(found: dict) -> str:
    """The ratios of a whole run as the table of the README."""
    shapes = list(dict.fromkeys(tuple(row["shape"]) for row in found["sequences"]))
    ratios = {(row["entry"], tuple(row["shape"])): row for row in found["sequences"]}
    one_step = {row["entry"]: row["ratio"] for row in found["steps"]}
    heads = ["cell", "beside", *(f"{b}, {t}, {h}" for b, t, h in shapes), "one step", "peak MiB"]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|" + "---:|" * (len(heads) - 2)]
    for entry in (e for e in ENTRIES if (e, shapes[0]) in ratios):
        rows = [ratios[entry, shape] for shape in shapes]
        step = one_step.get(entry)
        peak, of = rows[-1]["peak_mib"], ratios[rows[-1]["baseline"], shapes[-1]]["peak_mib"]
        cells_of_row = [f"`{entry}`" if " + " not in entry else entry, f"`{rows[0]['baseline']}`"]
        cells_of_row += [f"{row['ratio']:.2f}" for row in rows]
        cells_of_row += ["" if step is None else f"{step:.2f}", "" if peak is None else f"{peak:.0f} : {of:.0f}"]
        lines.append("| " + " | ".join(cells_of_row) + " |")
    return "\n".join(lines)


def put_into(readme: Path, found: dict) -> None:
    """Write the table between the marks of a document."""
    text = readme.read_text()
    begin, end = "<!-- speed:begin -->\n", "<!-- speed:end -->"
    head, _, rest = text.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not found_end:
        raise SystemExit(f"{readme} has no {begin.strip()} and {end} to write between")
    on = found["machine"]
    said = (
        f"Time of a forward and backward pass over that of torch.nn's own module at (B, T, H), input as wide as H, "
        f"float32, {on['threads']} threads of an {on['processor']} processor, torch {on['torch'].split('+')[0]}; below "
        f"1 is faster. One step: batch 1, H = 256, as generation takes it, over `nn.LSTM` called on one element. Peak "
        f"memory at the last shape, ours : torch's."
    )
    readme.write_text(f"{head}{begin}{said}\n\n{markdown(found)}\n{end}{tail}")


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", metavar="NAME", help=f"of {', '.join(ENTRIES)}")
    parser.add_argument("--shapes", nargs="+", metavar="B,T,H", help="for example 20,35,200")
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--quick", action="store_true", help="the first shape, 7 rounds, no memory")
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory (a process per entry)")
    parser.add_argument("--products", action="store_true")
    parser.add_argument("--recurrence", action="store_true")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--readme", type=Path, help="put the table of a whole run into this document")
    parser.add_argument("--from", dest="source", type=Path, help="take the figures from this JSON, measure nothing")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.cells or ()) - set(ENTRIES)
    if unknown:
        parser.error(f"there is no entry named {', '.join(sorted(unknown))}: choose of {', '.join(ENTRIES)}")
    try:
        shapes = [tuple(map(int, s.split(","))) for s in options.shapes] if options.shapes else SHAPES
        if any(len(shape) != 3 or min(shape) < 1 for shape in shapes):
            raise ValueError
    except ValueError:
        parser.error(f"--shapes takes B,T,H, three whole numbers of at least 1, but got {options.shapes}")
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print_memory(options.memory_of, shapes[0])
        return
    if options.source:
        if not options.readme:
            parser.error("--from goes with --readme: it says where the table goes")
        put_into(options.readme, json.loads(options.source.read_text()))
        return
    rounds = 7 if options.quick else options.rounds
    found = {"machine": machine(), "rounds": rounds, "command": " ".join(["python", *sys.argv])}
    print(" ".join(f"{key}={value}" for key, value in found["machine"].items()))
    if options.products:
        found["products"] = products(rounds)
    if options.recurrence:
        found["recurrence"] = recurrences(rounds)
    if not (options.products or options.recurrence):
        entries = options.cells or list(ENTRIES)
        memory = not (options.no_memory or options.quick)
        found["sequences"] = sequences(shapes[:1] if options.quick else shapes, entries, rounds, memory)
        found["steps"] = steps(entries, 256, rounds)
    if options.readme:
        put_into(options.readme, found)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
