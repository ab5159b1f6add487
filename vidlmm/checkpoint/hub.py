"""A hub id into a folder on this machine."""

import importlib
import re
from pathlib import Path

from vidlmm.checkpoint.weights import WeightsError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Code and pickle files are not asked for.
WANTED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja", "*.md")


def is_hub_id(name: str) -> bool:
    """Whether a name could be one at the hub: owner/name."""
    return _ID.fullmatch(name) is not None


def local_folder(name: str, revision: str | None = None) -> Path:
    """The folder as given, or the snapshot of a hub id, downloaded where it is not there yet.

    The cache, tokens and the offline mode are those of huggingface_hub.

    Raises:
        WeightsError: neither a folder nor a hub id, huggingface_hub is not installed, or it cannot give the snapshot.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    if not is_hub_id(name):
        raise WeightsError(f"{name} is not there; give a released checkpoint's folder, a run, or a hub id (owner/name)")
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise WeightsError(
            f"{name} is no folder here; to fetch it as a hub id install huggingface_hub, or download it and give the "
            "folder"
        ) from error
    try:
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=list(WANTED)))
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"the hub gives no snapshot of {name} (revision {revision or 'main'}): {first}") from error
