"""`raysight streams`, and a fleet in a file: `export` writes what a server has, `apply` makes a server have it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app.cli.options import AsJson, Key, ServerUrl, server

streams = typer.Typer(no_args_is_help=True, help="Look at streams and change them, one by one or all in a file.")


@streams.callback()
def group() -> None:
    """Look at streams and change them, one by one or all in a file."""


@streams.command()
def export(
    file: Annotated[Path | None, typer.Argument(help="Written anew; standard output without.")] = None,
    as_json: AsJson = False,
    url: ServerUrl = None,
    key: Key = None,
) -> None:
    """Write all specs as YAML, or JSON, credentials as references: {ref: NAME}."""
    import yaml

    from serve_app.cli.results import unwritable
    from serve_app.fleet.server import FleetOf

    if why := unwritable(file):
        raise typer.BadParameter(why, param_hint="FILE")
    found = {"streams": FleetOf(server(url, key)).export()}
    if as_json:
        text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    else:
        text = yaml.safe_dump(found, sort_keys=False, allow_unicode=True)
    if file is None:
        print(text, end="")
    else:
        file.write_text(text)


@streams.command()
def apply(
    file: Annotated[Path, typer.Argument(help="As `export` writes it.", exists=True, dir_okay=False)],
    prune: Annotated[bool, typer.Option("--prune", help="Delete streams that are not in the file.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    secrets: Annotated[
        Path | None,
        typer.Option(help="YAML: what references stand for, by name.", exists=True, dir_okay=False),
    ] = None,
    as_json: AsJson = False,
    url: ServerUrl = None,
    key: Key = None,
) -> None:
    """Create and change streams until they are as in the file; the exit status is 1 where the server refused one.

    {ref: NAME} is looked up in the --secrets file, then in the environment as RAYSIGHT_CREDENTIALS_NAME (in capitals,
    _ for -): "user:password", or JSON with username, password, query, path. A server that has a stream's credentials
    already keeps them. A dry run compares with what the server exports: it can't tell whether credentials would change,
    nor what the server would refuse.
    """
    from serve_app.cli.showing import document
    from serve_app.fleet.file import read_fleet, read_secrets
    from serve_app.fleet.plan import carry_out, make_plan
    from serve_app.fleet.server import FleetOf

    known = read_secrets(_text(secrets, "--secrets") if secrets is not None else "", os.environ)
    wanted = read_fleet(_text(file, "FILE"), known)
    there = FleetOf(server(url, key))
    plan = make_plan(wanted, there.export(), prune=prune)
    refused = {} if dry_run else carry_out(plan, wanted, there)
    if as_json:
        document({"dry_run": dry_run, "steps": [asdict(step) for step in plan], "refused": refused})
    else:
        _show(plan, refused, dry_run)
    if refused:
        sys.exit(1)


def _text(file: Path, named: str) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        raise typer.BadParameter(f"{file} is no text that can be read", param_hint=named) from None


def _show(plan: Any, refused: dict[str, str], dry_run: bool) -> None:
    from rich.text import Text

    from serve_app.cli.showing import console, table

    shown = table("stream", "would be" if dry_run else "is", "what")
    styles = {"created": "green", "changed": "yellow", "deleted": "red"}
    for step in plan:
        verdict, style = step.verdict.value, styles.get(step.verdict.value, "")
        if step.stream_id in refused:
            shown.add_row(step.stream_id, Text("refused", "bold red"), Text(refused[step.stream_id]))
        else:
            shown.add_row(step.stream_id, Text(verdict, style), Text("\n".join(step.differences)))
    console().print(shown)
    done = [step.verdict.value for step in plan if step.stream_id not in refused]
    counts = {verdict: done.count(verdict) for verdict in (*styles, "unchanged")}
    counts |= {"refused": len(refused)} if refused else {}
    console().print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
