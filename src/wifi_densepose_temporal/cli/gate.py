"""`wdt gate`: may sparse attention replace dense in this configuration? The work is training/gate.py's."""

from __future__ import annotations

from typing import Any

from wifi_densepose_temporal.cli.output import JsonOption, print_json, print_line, print_table, write_json
from wifi_densepose_temporal.cli.train import (
    CacheOption,
    ConfigArgument,
    DataOption,
    OutOption,
    SeedsOption,
    prepare,
    training_progress,
)

COLUMNS = ("criterion", "outcome", "sparse", "dense", "compared", "95 % interval")
LENGTH_COLUMNS = ("frames", "step", "prefill", "attention alone", "keys")


def gate(
    config: ConfigArgument,
    data: DataOption = None,
    out: OutOption = None,
    cache: CacheOption = None,
    seeds: SeedsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a configuration with sparse and with dense attention, and say whether sparse may replace dense.

    Four criteria on held-out recordings, pass or fail each. Leaves gate.json and both models' runs; by default in
    runs/NAME-gate. A gate that was killed goes on where it was.
    """
    job = prepare(config, data, out, cache, seeds, suffix="-gate")
    from wifi_densepose_temporal.training import gate as validation
    from wifi_densepose_temporal.training.recipe import is_first_process

    with training_progress() as progress:
        document = validation.gate(job.settings, job.folder, cache=job.cache, progress=progress)
    if not is_first_process():
        return
    document |= {"folder": str(job.folder)}
    write_json(job.folder / "gate.json", document)
    if as_json:
        print_json(document)
    else:
        print_gate(document)


def print_gate(document: dict[str, Any]) -> None:
    """What was compared, a line for each criterion, what was found, the times over length, and the verdict."""
    for words in (*document["split"], *document["compared"]):
        print_line(words)
    criteria = document["criteria"]
    print_table([_cells(number, one) for number, one in enumerate(criteria, 1)], COLUMNS, words=COLUMNS[:2])
    for number, one in enumerate(criteria, 1):
        print_line(f"{number}. {one['rule']}.")
        print_line(f"   {one['status']}: {one['said']}.{_drawn(one)}")
    if document["latency"]:
        title = "ms sparse / dense: the whole model, and one layer's attention alone; keys attended to"
        print_table(map(_length_cells, document["latency"]), LENGTH_COLUMNS, title=title)
    for words in document["cautions"]:
        print_line(words, style="bold yellow")
    print_line(document["verdict"], style="bold green" if document["sparse_may_replace_dense"] else "bold red")


def _cells(number: int, criterion: dict[str, Any]) -> list[object]:
    interval = criterion["interval"]
    return [
        f"{number}. {criterion['name']}",
        criterion["status"],
        *(_figure(criterion[name]) for name in ("sparse", "dense", "difference")),
        None if interval is None else " to ".join(map(_figure, interval)),
    ]


def _drawn(criterion: dict[str, Any]) -> str:
    if criterion["status"] == "unavailable":
        return ""
    if criterion["interval"] is None:
        return " No interval: there is nothing to draw from."
    sure = "stays on this side of the bound" if criterion["certain"] else "reaches over the bound"
    return f" The interval {sure}; {criterion['drawn']}."


def _length_cells(row: dict[str, Any]) -> list[object]:
    alone = {name: row[f"attention_{name}"] for name in ("sparse_ms", "dense_ms", "speedup")}
    return [row["T"], *map(_times, (row["step"], row["prefill"], alone)), f"{row['edge_ratio']:.2f}x"]


def _times(timing: dict[str, float]) -> str:
    return f"{timing['sparse_ms']:.3g} / {timing['dense_ms']:.3g} {timing['speedup']:5.2f}x"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
