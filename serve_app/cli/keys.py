"""`raysight keys`: make, list and remove keys, through the API or, without one, in the store itself."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_app.cli.options import AsJson, Key, ServerUrl, server

if TYPE_CHECKING:
    from serve_app.auth.desk import KeyDesk

keys = typer.Typer(no_args_is_help=True, help="Make, list and remove the keys that the API asks for.")

StoreUrl = Annotated[
    str | None,
    typer.Option(
        help="Work on this store itself, such as sqlite:///srv/raysight/state/registry.db: for the first key."
    ),
]
Labels = Annotated[
    list[str] | None, typer.Option("--label", help="KEY=VALUE: only streams with it are seen; repeat for several.")
]


class RoleChoice(StrEnum):
    """The roles, without loading what knows them."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose it is or what for.")],
    role: Annotated[RoleChoice, typer.Option(help="viewer reads, operator changes streams, admin does all.")],
    label: Labels = None,
    streams: Annotated[int | None, typer.Option(help="Streams that it may come to see by creating them.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Requests that it may make.")] = None,
    event_streams: Annotated[int | None, typer.Option(help="Live views that it may keep open.")] = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    url: ServerUrl = None,
    key: Key = None,
) -> None:
    """Make a key and print it: it is shown this once."""
    from serve_app.cli.showing import document

    quotas = {"streams": streams, "requests_per_minute": requests_per_minute, "event_streams": event_streams}
    spec = {"name": name, "role": role.value, "labels": _labels(label or ()), "quotas": quotas}
    made = _desk(url, key, store).add(spec)
    if as_json:
        document(made)
    else:
        print(made["key"])


@keys.command("list")
def list_keys(store: StoreUrl = None, as_json: AsJson = False, url: ServerUrl = None, key: Key = None) -> None:
    """List the keys, without their secrets."""
    from serve_app.cli.showing import console, document, table

    found = _desk(url, key, store).list()
    if as_json:
        document({"items": found})
        return
    shown = table("id", "role", "name", "labels", "quotas", "made", "by")
    for one in found:
        labels = ", ".join(f"{name}={value}" for name, value in sorted(one["labels"].items()))
        quotas = ", ".join(f"{name}: {limit}" for name, limit in one["quotas"].items() if limit is not None)
        shown.add_row(one["id"], one["role"], one["name"], labels, quotas, _date(one["created_at"]), one["created_by"])
    console().print(shown)


@keys.command()
def rm(
    key_id: Annotated[str, typer.Argument(help="As `raysight keys list` shows it.")],
    store: StoreUrl = None,
    as_json: AsJson = False,
    url: ServerUrl = None,
    key: Key = None,
) -> None:
    """Remove a key. It opens nothing from 5 seconds later on."""
    from serve_app.cli.showing import document

    _desk(url, key, store).remove(key_id)
    if as_json:
        document({"removed": key_id})


def _desk(url: str | None, key: str | None, store: str | None) -> KeyDesk:
    import os

    from serve_app.auth.desk import ApiDesk, StoreDesk

    return ApiDesk(server(url, key)) if store is None else StoreDesk(store, os.environ)


def _labels(texts: Sequence[str]) -> dict[str, Any]:
    pairs = [text.partition("=") for text in texts]
    for key, separator, _ in pairs:
        if not key or not separator:
            raise typer.BadParameter("a label is KEY=VALUE", param_hint="--label")
    return {key: value for key, _, value in pairs}


def _date(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
