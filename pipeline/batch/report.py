"""What became of every video, as a table for programs and a page for people."""

from __future__ import annotations

import csv
import html
import io
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gridpose.core import GridposeError
from gridpose.pipeline.batch.journal import Entry
from gridpose.pipeline.batch.options import BatchOptions
from gridpose.storage import replacing

CSV: Final = "report.csv"
HTML: Final = "report.html"
_COLUMNS: Final = [
    "path",
    "state",
    "kind",
    "message",
    "result",
    "size",
    "duration",
    "frames",
    "people",
    "seconds",
    "attempts",
    "worker",
    "sha256",
    "warnings",
]
_ORDER: Final = ("failed", "running", "pending", "skipped", "done")
_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --bad: #d0342c; --good: #2a8a4a; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem;
       padding: 0 1rem; }
h1 { font-size: 1.3rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
td { vertical-align: top; overflow-wrap: anywhere; }
td:nth-child(2) { white-space: nowrap; }
.n { text-align: right; white-space: nowrap; }
.failed { color: var(--bad); font-weight: 600; }
.done { color: var(--good); }
.scroll { overflow-x: auto; }
"""


def write_reports(
    output: Path, folder: Path, entries: Sequence[Entry], options: BatchOptions
) -> list[Path]:
    """Write ``report.csv`` and ``report.html``; on a full disk those that there is room for."""
    ordered = sorted(entries, key=lambda entry: (_ORDER.index(entry.state), entry.path))
    written = []
    for name, text in (
        (CSV, csv_text(ordered)),
        (HTML, html_text(folder, ordered, options)),
    ):
        try:
            with replacing(output / name) as partial:
                # Names need not be Unicode: what is none is written as \\udcXX.
                partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        except GridposeError:
            continue
        written.append(output / name)
    return written


def csv_text(entries: Sequence[Entry]) -> str:
    """A row for each video."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for entry in entries:
        writer.writerow([_plain(getattr(entry, name)) for name in _COLUMNS])
    return out.getvalue()


def _plain(value: object) -> object:
    return "" if value is None else round(value, 3) if isinstance(value, float) else value


def html_text(folder: Path, entries: Sequence[Entry], options: BatchOptions) -> str:
    """One page that needs nothing else; what went wrong comes first."""
    states = Counter(entry.state for entry in entries)
    seconds = sum(entry.seconds or 0 for entry in entries)
    frames = sum(entry.frames or 0 for entry in entries)
    counts = ", ".join(f"{states[state]} {state}" for state in _ORDER if states[state])
    rows = "\n".join(_row(entry) for entry in entries)
    title = f"gridpose batch: {html.escape(str(folder))}"
    rate = f"{frames / seconds:.1f} frames/s of work" if seconds else "nothing done yet"
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{_STYLE}</style></head>
<body>
<h1>{title}</h1>
<p>{len(entries)} videos: {counts or "none"}. {frames} frames, {rate}.
Options {options.digest}; {time.strftime("%Y-%m-%d %H:%M:%S")}.</p>
<div class="scroll"><table>
<thead><tr><th>video</th><th>state</th><th>what</th><th class="n">length, s</th>
<th class="n">frames</th><th class="n">people</th><th class="n">work, s</th></tr></thead>
<tbody>
{rows}
</tbody></table></div>
</body></html>
"""


def _row(entry: Entry) -> str:
    said = html.escape(entry.message or entry.warnings or "")
    numbers = (
        "" if entry.duration is None else f"{entry.duration:.1f}",
        "" if entry.frames is None else str(entry.frames),
        "" if entry.people is None else str(entry.people),
        "" if entry.seconds is None else f"{entry.seconds:.1f}",
    )
    cells = "".join(f'<td class="n">{number}</td>' for number in numbers)
    state = f'<td class="{entry.state}">{entry.state}</td>'
    return f"<tr><td>{html.escape(entry.path)}</td>{state}<td>{said}</td>{cells}</tr>"
