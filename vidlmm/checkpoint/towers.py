"""Towers that a release leaves out, from their own release.

Stages that freeze a tower may save everything but its tensors, and the originals load the tower from the release that
config.json names (LLaVA-NeXT siglip_encoder.py:544-571, VideoLLaMA2 encoder.py:31-60, Valley valley_model.py:76-80,
Video-LLaVA languagebind/__init__.py). Its tensors are read here as if they stood under the names that the whole
checkpoint gives them; what belongs to a text tower beside it is left alone.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from vidlmm.checkpoint.hub import local_folder
from vidlmm.checkpoint.layout import Config, Layout
from vidlmm.checkpoint.tensors import Stored, read_header
from vidlmm.checkpoint.weights import WeightsError

OWN = "vision_model."


def left_out(layout: Layout, keys: Collection[str]) -> dict[str, str]:
    """Of each tower of a layout without a tensor the field of config.json that names it, to its keys' beginning."""
    return {field: prefix for prefix, field in layout.towers if not any(key.startswith(prefix) for key in keys)}


def find_tower(config: Config, field: str, given: Mapping[str, str]) -> Path:
    """The folder of a tower: the caller's, else the release that config.json names.

    Raises:
        WeightsError: it is not there; the message names the argument.
    """
    name = given.get(field) or config.get(field)
    asked = f"give towers={{{field!r}: ...}}, the folder or hub id of its own release"
    if not name:
        raise WeightsError(f"the weights hold no vision tower and config.json has no {field} that names one; {asked}")
    try:
        folder = local_folder(str(name))
    except WeightsError as error:
        raise WeightsError(f"the weights hold no vision tower, and {field} is {name!r}: {error}; {asked}") from error
    if not folder.is_dir():
        raise WeightsError(f"the weights hold no vision tower, and {field} is {name!r}, which is no folder; {asked}")
    return folder


def tower_tensors(folder: Path, files: Collection[str], prefix: str) -> dict[str, Stored]:
    """The tower's tensors in safetensors `files` of its release, by the names of the whole checkpoint.

    Raises:
        WeightsError: damaged files, or none of a tower's tensors in them.
    """
    held = {key: tensor for name in files for key, tensor in read_header(folder / name).tensors.items()}
    found = {prefix + key.removeprefix(OWN): tensor for key, tensor in held.items() if key.startswith(OWN)}
    if not found:
        raise WeightsError(
            f"{folder} holds no vision tower: no tensor of it is called {OWN}..., they are called "
            f"{', '.join(sorted(held)[:3]) or 'nothing'}"
        )
    return found
