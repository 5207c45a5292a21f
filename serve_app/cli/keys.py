"""`raysight keys`: make, list and remove keys, through the API or, without one, in the store itself."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from serve_app.auth.desk import KeyDesk

keys = typer.Typer(no_args_is_help=True, help="Make, list and remove the keys that the API asks for.")

Url = Annotated[str, typer.Option(envvar="RAYSIGHT_URL", help="Of the API; RAYSIGHT_KEY holds the key of an admin.")]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        help="Work on this store itself, such as sqlite:///srv/raysight/state/registry.db: for the first key."
    ),
]
Labels = Annotated[
    list[str] | None, typer.Option("--label", help="KEY=VALUE: only streams with it are seen; repeat for several.")
]
_HERE = "http://127.0.0.1:8000"


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
    url: Url = _HERE,
    store: StoreUrl = None,
) -> None:
    """Make a key and print it: it is shown this once."""
    quotas = {"streams": streams, "requests_per_minute": requests_per_minute, "event_streams": event_streams}
    spec = {"name": name, "role": role.value, "labels": _labels(label or ()), "quotas": quotas}
    print(_desk(url, store).add(spec)["key"])


@keys.command("list")
def list_keys(url: Url = _HERE, store: StoreUrl = None) -> None:
    """List the keys, without their secrets."""
    for key in _desk(url, store).list():
        labels = [f"{name}={value}" for name, value in sorted(key["labels"].items())]
        quotas = [f"{name}: {limit}" for name, limit in key["quotas"].items() if limit is not None]
        made = f"made {_date(key['created_at'])} by {key['created_by']}"
        print("  ".join([f"{key['id']:12}", f"{key['role']:8}", key["name"], *labels, *quotas, made]))


@keys.command()
def rm(
    key_id: Annotated[str, typer.Argument(help="As `raysight keys list` shows it.")],
    url: Url = _HERE,
    store: StoreUrl = None,
) -> None:
    """Remove a key. It opens nothing from 5 seconds later on."""
    _desk(url, store).remove(key_id)


def _desk(url: str, store: str | None) -> KeyDesk:
    import os

    from serve_app.auth.desk import ApiDesk, StoreDesk

    return ApiDesk(url, os.environ.get("RAYSIGHT_KEY", "")) if store is None else StoreDesk(store, os.environ)


def _labels(texts: Sequence[str]) -> dict[str, Any]:
    pairs = [text.partition("=") for text in texts]
    for key, separator, _ in pairs:
        if not key or not separator:
            raise typer.BadParameter("a label is KEY=VALUE", param_hint="--label")
    return {key: value for key, _, value in pairs}


def _date(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
