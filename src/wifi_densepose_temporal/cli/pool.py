"""`wdt pool`: many tracks at once."""

from __future__ import annotations

import typer

from wifi_densepose_temporal.cli.pool_replay import pool_replay

app = typer.Typer(no_args_is_help=True, help="Many tracks at once.")


@app.callback()
def pool() -> None:
    """Many tracks at once."""


app.command("replay")(pool_replay)
