"""The page: everything about some runs in one HTML file that needs nothing else.

What runs left is never trusted: every text goes through the template's escaping or into the page's data as JSON, from
where the script takes it as text only; and the page's own policy lets no script run but its two, by their checksums.
"""

import base64
import hashlib
import json
import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import plotly.offline

from hybridgen.data.files import write_text
from hybridgen.report.latent_map import LatentMap, map_latents
from hybridgen.report.media import Gallery, galleries
from hybridgen.report.metrics import Curve, against
from hybridgen.report.results import Results, Row, results_of
from hybridgen.report.run_folder import Run, summary
from hybridgen.report.units import Units, read_units
from hybridgen.report.wording import count, duration

#: Points of a curve that are drawn, at most.
MOST_POINTS = 1500
_HERE = Path(__file__).parent


@dataclass
class Section:
    """What the page shows of one run."""

    number: int
    name: str
    summary: dict[str, Any]
    facts: list[tuple[str, str]]
    galleries: list[Gallery]
    results: Results
    command: str
    again: str
    config: str
    versions: list[tuple[str, str]]
    revision: str
    units: Units | None = None
    latent: LatentMap | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """Figures."""
        return self.results.rows


def write_report(
    runs: Sequence[Run], out: Path, *, text: str | None = None, stages: int = 12, look_inside: bool = True
) -> None:
    """Write the page, whole or not at all.

    Args:
        runs: in the order that they are shown.
        out: the file.
        text: what hidden units and the latent map are looked at on; by default models write it themselves.
        stages: moments of training that samples and pictures are shown of, at most.
        look_inside: load checkpoints for hidden units and latent maps.

    Raises:
        ValueError: if the file cannot be written.
    """
    sections = [section_of(run, number, text, stages, look_inside) for number, run in enumerate(runs)]
    page = render(sections, [run_data(run) for run in runs])
    try:
        write_text(out, page)
    except OSError as error:
        raise ValueError(f"--out: {out} cannot be written ({error.strerror})") from None


def section_of(run: Run, number: int, text: str | None, stages: int, look_inside: bool) -> Section:
    """Everything about a run but its curves."""
    shown = summary(run)
    record = run.record
    git = record.get("git") if isinstance(record.get("git"), dict) else {}
    revision = str(git.get("commit") or "") + (" with changes that are not committed" if git.get("changed") else "")
    argv = [str(each) for each in record.get("argv") or []]
    path = run.folder / "config.yaml"
    made = Section(
        number=number,
        name=run.name,
        summary=shown,
        facts=_facts(run, shown),
        galleries=galleries(run.folder, stages),
        results=results_of(run),
        command=shlex.join(["hybridgen", *argv[1:]]) if argv else "",
        again=shlex.join(["hybridgen", "fit", "--config", str(path)]) if path.is_file() else "",
        config=path.read_text(encoding="utf-8", errors="replace") if path.is_file() else "",
        versions=[(str(k), str(v)) for k, v in (record.get("versions") or {}).items()],
        revision=revision,
    )
    if record.get("error"):
        made.notes.append(f"The run failed: {record['error']}")
    if not run.curves:
        made.notes.append("No values were logged (metrics.csv is missing or empty).")
    _look_inside(made, run, text, look_inside)
    return made


def _look_inside(made: Section, run: Run, text: str | None, wanted: bool) -> None:
    """Load the checkpoint for what only the model can tell; what goes wrong is told on the page."""
    if not wanted:
        return
    if run.checkpoint is None:
        made.notes.append("There is no checkpoint: hidden units and latents are not shown.")
        return
    from hybridgen.loading import load

    try:
        model = load(run.checkpoint)
        made.units = read_units(model, text)
        made.latent = map_latents(model, text)
    except Exception as error:  # of whatever model: the rest of the page is worth having without it
        made.notes.append(f"Hidden units and latents are not shown: {error}")


def _facts(run: Run, shown: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures at the top of a run."""
    options = run.section("model")[1]
    stack = options.get("stack") if isinstance(options.get("stack"), dict) else options.get("decoder")
    recurrent = ""
    if isinstance(stack, dict):
        sizes = stack.get("hidden_size")
        width = " and ".join(map(str, sizes)) if isinstance(sizes, list) else sizes
        layers = stack.get("num_layers")
        times = f"{layers} × " if isinstance(layers, int) and layers > 1 else ""
        recurrent = f"{stack.get('cell', '')} {times}{width or ''}".strip()
    best = "" if shown["best"] is None else f"{shown['best']:.4g}"
    facts = [
        ("model", " · ".join(filter(None, [shown["model"], recurrent]))),
        ("data", shown["data"]),
        (f"best {shown['monitor']}" if best else "", best),
        ("parameters", "" if shown["parameters"] is None else count(shown["parameters"])),
        ("trained", f"{shown['epochs']} epochs, {shown['steps']:,} steps"),
        ("wall time", duration(shown["seconds"])),
        ("begun", time.strftime("%d %b %Y, %H:%M", time.localtime(shown["started"]))),
        ("on", str(run.record.get("host") or "")),
    ]
    return [(name, value) for name, value in facts if name and value]


def run_data(run: Run) -> dict[str, Any]:
    """The curves of a run for the script, against steps, epochs and, where they are logged, tokens."""
    counter = run.record.get("step_metric") or next((name for name in run.curves if name.endswith("_seen")), None)
    per_epoch = _steps_per_epoch(run.curves)
    curves = {}
    for name, curve in run.curves.items():
        if name == counter:
            continue
        kept = _thinned(curve)
        seen = against(run.curves, counter, kept.steps) if counter else None
        curves[name] = {
            "step": kept.steps,
            "epoch": [round((step + 1) / per_epoch, 4) for step in kept.steps],
            "seen": seen,
            "value": [value if math.isfinite(value) else None for value in kept.values],
        }
    unit = str(counter).rpartition("/")[2].removesuffix("_seen").replace("_", " ") if counter else None
    return {"name": run.name, "curves": curves, "seen": unit, "monitor": run.monitor}


def _steps_per_epoch(curves: dict[str, Curve]) -> float:
    """Steps of an epoch: the last step of each whole epoch tells."""
    last: dict[int, int] = {}
    for curve in curves.values():
        for step, epoch in zip(curve.steps, curve.epochs, strict=True):
            last[epoch] = max(step, last.get(epoch, -1))
    whole = sorted(last)[:-1] or sorted(last)
    return max(1.0, max(((last[epoch] + 1) / (epoch + 1) for epoch in whole), default=1.0))


def _thinned(curve: Curve) -> Curve:
    every = -(-len(curve.steps) // MOST_POINTS)
    if every <= 1:
        return curve
    keep = slice((len(curve.steps) - 1) % every, None, every)  # the last point is always there
    return Curve(curve.steps[keep], curve.epochs[keep], curve.values[keep])


def render(sections: Sequence[Section], data: Sequence[dict[str, Any]]) -> str:
    """The page's HTML."""
    shapes = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    library, script = plotly.offline.get_plotlyjs(), (_HERE / "page.js").read_text(encoding="utf-8")
    holds = {
        "runs": list(data),
        "units": {each.number: asdict(each.units) for each in sections if each.units},
        "latents": {each.number: asdict(each.latent) for each in sections if each.latent},
    }
    return shapes.get_template("page.html").render(
        sections=sections,
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        library=library,
        script=script,
        policy=" ".join(map(_checksum, (library, script))),
        data=_as_json(holds),
        written=time.strftime("%d %b %Y, %H:%M"),
    )


def _as_json(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("\u2028", "\\u2028")


def _checksum(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
