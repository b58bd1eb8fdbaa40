"""`wdt node`: the firmware's head on this machine, and what it takes to put a model on a chip."""

from __future__ import annotations

import typer

from wifi_densepose_temporal.cli.node_bench import node_bench
from wifi_densepose_temporal.cli.node_blob import node_blob
from wifi_densepose_temporal.cli.node_check import node_check
from wifi_densepose_temporal.cli.node_header import node_header
from wifi_densepose_temporal.cli.node_quantise import node_quantise
from wifi_densepose_temporal.cli.node_run import node_run
from wifi_densepose_temporal.cli.node_send import node_send

app = typer.Typer(no_args_is_help=True, help="A model on a microcontroller: run, measure, fit, quantise, embed, send.")
app.command("run")(node_run)
app.command("check")(node_check)
app.command("blob")(node_blob)
app.command("quantise")(node_quantise)
app.command("header")(node_header)
app.command("bench")(node_bench)
app.command("send")(node_send)
