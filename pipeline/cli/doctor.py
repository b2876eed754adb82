"""``gridpose doctor``: what is installed and what works."""

from __future__ import annotations

import typer

from gridpose.pipeline.cli.console import Console
from gridpose.pipeline.cli.errors import reports_errors
from gridpose.pipeline.cli.options import Json, Verbose


@reports_errors
def doctor_command(
    verbose: Verbose = False,
    json_output: Json = False,
) -> None:
    """Say what is installed and what works, and the command that mends each lack.

    Ends with exit code 4 when the main job cannot run.

    \b
    Example:
      gridpose doctor
    """  # noqa: D301
    from gridpose.pipeline.doctor import examine

    findings = examine()
    lines = []
    for finding in findings:
        mark = "ok     " if finding.ok else ("MISSING" if finding.needed else "-      ")
        lines.append(f"{mark} {finding.name}: {finding.detail}")
        if finding.mend:
            lines.append(f"          mend: {finding.mend}")
    works = all(finding.ok for finding in findings if finding.needed)
    Console(False, verbose, json_output).result(
        {"ok": works, "findings": [finding.to_dict() for finding in findings]}, "\n".join(lines)
    )
    if not works:
        raise typer.Exit(4)
