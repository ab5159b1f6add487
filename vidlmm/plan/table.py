"""The page of plans, docs/scale.md, and what it is written from: one command, which goes on where it was stopped."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vidlmm.checkpoint.files import write_atomic
from vidlmm.configs import load_config
from vidlmm.plan.cache import Cache, default_folder
from vidlmm.plan.devices import find_target
from vidlmm.plan.make import make_plan
from vidlmm.plan.report import size, span
from vidlmm.plan.result import Plan, from_dict
from vidlmm.plan.scale import EVERY, Row, every_recipe, scale_rows
from vidlmm.plan.workload import workload
from vidlmm.spec.chips import CHIPS
from vidlmm.train.setup import plain

_HEAD = """\
# How far it scales

Planned, not measured: for every line the TPU compiler compiled the real train step for that slice, on a machine without
one. It says what fits. Times are rooflines: FLOPs, bytes and exchanges of the compiled program at the peaks of the data
sheets, the slowest of which counts as if all others were hidden behind it. A run is slower: the vendor's own large
products reach about 80 % of the peak, and its copies 85 % of the memory's rate.

MFU is the model's own arithmetic over the peak: causal attention halved, towers counted, the head for trained tokens,
remat not, gradients of what is held still not. Sizes are chips, with the topology written out; a tpu7x chip is two
devices. Above 256 chips v5e and v6e are several slices that the data-centre network joins (`v5e:16x16*4`). GB are 10^9
bytes; of its own the compiler keeps a quarter of a GiB or more. Rows are taken to be full. Hours are those of the
recipe's data, where its size is known.

`vidlmm plan --table docs/scale.md` makes this page and [scale.json](scale.json): it compiles what is not stored there,
about a minute each, and goes on where it was stopped; with `--stored` it writes the page alone. Keys of scale.json are
config, topology and overrides: `vidlmm plan --config CONFIG --topology TOPOLOGY --config.OVERRIDE ...` tells all of a
line, and `--search` looks for better meshes.
"""


def plan_table(page: Path, say: Callable[[str], None], *, compile_missing: bool) -> None:
    """Write the page, after compiling what is not stored beside it.

    Args:
        page: the .md; plans are stored in the .json of the same name.
    """
    file = page.with_suffix(".json")
    stored: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    rows = (*scale_rows(), *every_recipe())
    missing = [row for row in rows if row.key not in stored]
    for number, row in enumerate(missing if compile_missing else [], 1):
        say(f"{number}/{len(missing)}  {row.key}")
        plan = plan_row(row, say)
        stored[row.key] = asdict(plan)
        say(f"    {'fits' if plan.fits else 'DOES NOT FIT'}: {size(plan.memory.total)}, {plan.compile_seconds:.0f} s")
        write_atomic(file, json.dumps(_in_order(stored, rows), indent=1) + "\n")
        write_atomic(page, page_text(rows, stored))
    write_atomic(file, json.dumps(_in_order(stored, rows), indent=1) + "\n")
    write_atomic(page, page_text(rows, stored))


def plan_row(row: Row, say: Callable[[str], None]) -> Plan:
    """The plan of a line."""
    target = find_target(row.topology)
    settings = plain(load_config(row.config, list(row.arguments)))
    work = workload(row.config, settings, row.stage, len(target.devices), target.slices)
    return make_plan(work, target, Cache(default_folder()), say)


def page_text(rows: Sequence[Row], stored: Mapping[str, Any]) -> str:
    """The page, with the lines that are stored."""
    parts = [_HEAD]
    for section in dict.fromkeys(row.section for row in rows):
        own = [(row, from_dict(stored[row.key])) for row in rows if row.section == section and row.key in stored]
        if own:
            parts.append("\n".join([f"## {section}", "", *_lines(section, own)]) + "\n")
    parts.append(_chips())
    return "\n".join(parts)


def _lines(section: str, own: Sequence[tuple[Row, Plan]]) -> list[str]:
    first = "| recipe, stage | topology |" if section == EVERY else "| topology | chips |"
    rule = "| --- | --- |" if section == EVERY else "| --- | ---: |"
    head = [
        f"{first} mesh | remat | rows a step | memory of a device | fits | step, at the least | bound by "
        "| MFU, at the most | videos/s | hours | chip-hours |",
        f"{rule} --- | --- | ---: | ---: | --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    return head + [_line(section, row, plan) for row, plan in own]


def _line(section: str, row: Row, plan: Plan) -> str:
    mesh = " ".join(f"{axis}={count}" for axis, count in plan.mesh.items()) or "one device"
    capacity = plan.memory.limit or plan.hbm
    cells = [f"{row.config}, {plan.stage}", plan.topology] if section == EVERY else [plan.topology, f"{plan.chips:,}"]
    cells += [mesh, plan.remat, f"{plan.batch['rows']:,} x {plan.batch['length']:,}"]
    cells += [f"{size(plan.memory.total)} of {size(capacity)}", "yes" if plan.fits else "**no**"]
    flow, rates = plan.flow, plan.rates
    cells += [span(flow.slowest), flow.bound] if flow and flow.seconds else ["", ""]
    if rates is None:
        cells += [""] * 4
    else:
        data = [f"{rates.hours:,.1f}", f"{rates.chip_hours:,.0f}"] if rates.hours else ["", ""]
        cells += [f"{rates.mfu:.0%}", f"{rates.videos:,.1f}" if rates.videos else "", *data]
    return "| " + " | ".join(cells) + " |"


def _chips() -> str:
    lines = [
        "## What the times are made of",
        "",
        "| chip | devices | bf16 TFLOP/s | memory GiB | memory TB/s | a link, one way GB/s | links | network GB/s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for chip in CHIPS.values():
        numbers = (chip.devices, chip.tflops, chip.hbm_gib, chip.hbm_tbs, chip.ici_gbs, chip.links, chip.dcn_gbs or "")
        lines.append(f"| {chip.name} | " + " | ".join(f"{n:g}" if n != "" else "" for n in numbers) + " |")
    return "\n".join(lines) + "\n"


def _in_order(stored: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """What is stored for these lines, in their order; what no line asks for any more is left out."""
    return {row.key: stored[row.key] for row in rows if row.key in stored}
