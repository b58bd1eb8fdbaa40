"""The command line, `wdt`: one thin command a file. Here they are put together, and errors become exit codes.

Exit codes: 0 done; 1 an error, told in one line on stderr; 2 wrong usage; 130 interrupted. An exception that is no
`TemporalError` is a bug of this package, and shows its traceback.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

import wifi_densepose_temporal
from wifi_densepose_temporal.cli.adapt import adapt
from wifi_densepose_temporal.cli.bench_speedup import bench_speedup
from wifi_densepose_temporal.cli.capture_info import capture_info
from wifi_densepose_temporal.cli.demo import demo
from wifi_densepose_temporal.cli.embed import embed
from wifi_densepose_temporal.cli.enroll import enroll
from wifi_densepose_temporal.cli.evaluate import evaluate
from wifi_densepose_temporal.cli.gallery import app as gallery
from wifi_densepose_temporal.cli.gate import gate
from wifi_densepose_temporal.cli.identify import identify
from wifi_densepose_temporal.cli.info import info
from wifi_densepose_temporal.cli.init_random_blob import init_random_blob
from wifi_densepose_temporal.cli.inspect_blob import inspect
from wifi_densepose_temporal.cli.manifest import manifest
from wifi_densepose_temporal.cli.node import app as node
from wifi_densepose_temporal.cli.output import note
from wifi_densepose_temporal.cli.plot_capture import plot_capture
from wifi_densepose_temporal.cli.pool import app as pool
from wifi_densepose_temporal.cli.run import run
from wifi_densepose_temporal.cli.soak import soak_command
from wifi_densepose_temporal.cli.train import pretrain, train
from wifi_densepose_temporal.errors import TemporalError

INTERRUPTED = 130  # 128 + SIGINT, as shells count

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command()(demo)
app.command()(run)
app.command()(capture_info)
app.command()(inspect)
app.command()(init_random_blob)
app.command()(bench_speedup)
app.command("plot")(plot_capture)
app.command()(train)
app.command()(pretrain)
app.command()(gate)
app.command()(adapt)
app.command()(evaluate)
app.command()(embed)
app.command()(enroll)
app.command()(identify)
app.command()(manifest)
app.command("soak")(soak_command)
app.command()(info)
app.add_typer(gallery, name="gallery")
app.add_typer(pool, name="pool")
app.add_typer(node, name="node")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wdt {wifi_densepose_temporal.__version__}")
        raise typer.Exit


@app.callback()
def configure(
    verbose: Annotated[bool, typer.Option("--verbose", help="Say on stderr what is being done.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """WiFi CSI recordings through the AETHER temporal head: decisions over time, and what they are worth."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO if verbose else logging.WARNING, format="wdt: %(message)s", force=True
    )


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and exits.

    Args:
        args: the command line without the program's name; by default `sys.argv[1:]`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a label that the terminal's encoding does not have
    try:
        code = _run(args)
        if sys.stdout is not None:  # None where the shell has closed it
            sys.stdout.flush()
    except TemporalError as error:
        note(str(error))
        code = 1
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:  # of the output: every file of ours raises a FileError
        if not isinstance(error, BrokenPipeError):  # the reader, such as `head`, has seen enough
            note(f"cannot write the output: {error.strerror or error}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit would fail again
        code = 1
    if code == INTERRUPTED:
        note("interrupted")
    sys.exit(code)


def _run(args: Sequence[str] | None) -> int:
    """The command's exit code; the framework ends every command, and wrong usage, with SystemExit."""
    try:
        app(args=args, prog_name="wdt")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    return 0
