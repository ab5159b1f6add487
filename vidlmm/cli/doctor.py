"""`vidlmm doctor`: what works on this machine. Exit code 1 if something that is needed is missing."""

import argparse
import importlib.metadata
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# What published clips come in, and the decoder that reads it (FFmpeg's own AV1 entry needs a GPU).
DECODERS = {"h264": "h264", "hevc": "hevc", "vp9": "vp9", "av1": "libdav1d", "mpeg4": "mpeg4", "aac": "aac"}
NEEDED_DECODERS = ("h264", "aac")
# The generated videos are written with these.
ENCODERS = ("libx264", "aac")
MEMORY_GIB = 4.0  # what the quickstart is made for


@dataclass(frozen=True)
class Finding:
    """One thing looked at. "missing" is needed by the main job, "without" is not."""

    state: Literal["ok", "without", "missing"]
    name: str
    detail: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Prints one line for each thing looked at; exits 1 if something that is needed is missing."


def run(args: argparse.Namespace) -> int:
    findings = []
    for finding in examine():
        findings.append(finding)
        print(f"{finding.state:8} {finding.name:20} {finding.detail}", flush=True)
    missing = [finding.name for finding in findings if finding.state == "missing"]
    if missing:
        print(f"vidlmm doctor: missing: {', '.join(missing)}", file=sys.stderr)
        return 1
    print("Everything that the main job needs is here.")
    return 0


def examine() -> Iterator[Finding]:
    """All findings, in the order in which they are printed."""
    yield machine()
    yield memory(available_memory_gib())
    yield from packages()
    yield devices()
    yield from codecs()
    yield compile_cache()


def machine() -> Finding:
    system = f"{platform.system()} {platform.machine()}"
    return Finding("ok", "python", f"{platform.python_version()} on {system}, {usable_cores()} cores")


def usable_cores() -> int:
    """Cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory(gib: float | None) -> Finding:
    if gib is None:
        return Finding("without", "memory", "this system does not tell how much there is")
    if gib < MEMORY_GIB:
        return Finding("without", "memory", f"{gib:.1f} GiB; the quickstart is made for {MEMORY_GIB:.0f} GiB")
    return Finding("ok", "memory", f"{gib:.1f} GiB")


def available_memory_gib() -> float | None:
    """Memory of the machine, or of the container if that is less."""
    sizes = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        sizes.append(int(text))
    return min(sizes) / 2**30 if sizes else None


def packages() -> Iterator[Finding]:
    """The installed version of every requirement."""
    try:
        requirements = importlib.metadata.requires("vidlmm") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("missing", "vidlmm", "runs from its sources without being installed: pip install .")
        return
    for requirement in requirements:
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            yield Finding("ok", name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding("missing", name, f"not installed: pip install {requirement!r}")


def devices() -> Finding:
    try:
        import jax

        found = jax.devices()
    except Exception as error:  # a broken plug-in raises whatever it likes
        return Finding("missing", "devices", f"JAX does not start: {' '.join(str(error).split())}")
    kinds = sorted({f"{device.platform} ({device.device_kind})" for device in found})
    return Finding("ok", "devices", f"{len(found)} x {', '.join(kinds)}")


def codecs() -> Iterator[Finding]:
    try:
        from av.codec import Codec
    except ImportError as error:
        yield Finding("missing", "codecs", f"PyAV does not load: {error}")
        return
    wanted: list[tuple[str, str, Literal["r", "w"], bool]] = [
        *((f"reads {name}", codec, "r", name in NEEDED_DECODERS) for name, codec in DECODERS.items()),
        *((f"writes {name}", name, "w", True) for name in ENCODERS),
    ]
    for what, codec, mode, needed in wanted:
        try:
            yield Finding("ok", what, Codec(codec, mode).long_name)
        except ValueError:  # PyAV: no such codec in this build
            yield Finding("missing" if needed else "without", what, "not in this build of PyAV")


def compile_cache() -> Finding:
    name = "compile cache"
    try:
        from vidlmm.parallel.runtime import cache_folder
    except Exception:
        return Finding("without", name, "not looked at, for JAX does not start")
    folder = cache_folder()
    if folder is None:
        return Finding("without", name, "turned off by VIDLMM_CACHE; programs are compiled anew each time")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Finding("ok", name, str(folder))
    except OSError as error:
        return Finding("without", name, f"{folder}: {error.strerror}; programs are compiled anew each time")
