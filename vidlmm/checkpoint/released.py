"""A released checkpoint's folder into a model and back into the same files.

    config.json            what tensors cannot tell
    *.safetensors          the tensors; several files with model.safetensors.index.json
    tokenizer.json ...     everything else, copied as it is

Nothing in the folder is run: `auto_map` and code are ignored, pickle files are refused.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from vidlmm.checkpoint import delta, hound, llava, llava_hf, llavaction, text_only, valley, video_llava_hf, videollama2
from vidlmm.checkpoint.hub import local_folder
from vidlmm.checkpoint.keymap import KeyPlan, Rule, Rules, plan
from vidlmm.checkpoint.layout import Config, Layout, Overrides, Shapes
from vidlmm.checkpoint.loading import load_params, param_dtype
from vidlmm.checkpoint.memory import check_fits, device_of, need, parameters
from vidlmm.checkpoint.names import Params, Skeleton
from vidlmm.checkpoint.peft_folder import PeftFolder, read_peft
from vidlmm.checkpoint.run import video_lm_skeleton
from vidlmm.checkpoint.tensors import Header, Stored, read_header
from vidlmm.checkpoint.towers import find_tower, left_out, tower_tensors
from vidlmm.checkpoint.weights import WeightsError, read_fields
from vidlmm.spec import ModelSpec

# Special ones stand before those whose names they share.
LAYOUTS: tuple[Layout, ...] = tuple(
    part.LAYOUT for part in (videollama2, valley, video_llava_hf, llava_hf, hound, llavaction, llava, text_only)
)
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
_WHOSE = "a released checkpoint"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
# What peft, and the originals beside it, write of a training that leaves the weights alone.
ADAPTERS = ("adapter_config.", "adapter_model.", "non_lora_trainables.")
# Types of numbers that weights can be computed with as they are.
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Folder:
    """A checkpoint's files, of which only headers and config.json have been read.

    files: the safetensors files by name. tensors: all of them by key, with those of towers that the checkpoint leaves
        out and names.
    """

    path: Path
    config: Config
    files: Mapping[str, Header]
    tensors: Mapping[str, Stored] = field(repr=False)


@dataclass(frozen=True)
class Released:
    """A checkpoint that is understood, with nothing loaded yet.

    skeleton: the model without its arrays. keys: which tensors make which array.
    """

    folder: Folder
    layout: Layout
    spec: ModelSpec
    skeleton: Skeleton = field(repr=False)
    keys: KeyPlan = field(repr=False)

    def load(
        self,
        dtype: Any = None,
        shardings: Mapping[str, Any] | None = None,
        names: Collection[str] | None = None,
    ) -> Params:
        """The parameters, as stored where `dtype` is None; only those of `names` where it is given.

        Raises:
            MemoryError: they do not fit; before anything is read.
        """
        keys = {name: parts for name, parts in self.keys.parts.items() if names is None or name in names}
        shapes = {name: tuple(shape.shape) for name, shape in self.skeleton.shapes.items() if name in keys}
        tensors = self.folder.tensors
        dtypes = {name: param_dtype(parts, tensors, dtype) for name, parts in keys.items()}
        device, count = device_of(shardings)
        what = f"{self.spec.name} from {self.folder.path}, {parameters(shapes):,} parameters"
        check_fits(what, need(shapes, dtypes, shardings), device, count)
        return load_params(KeyPlan(keys, ()), self.skeleton.shapes, tensors, dtype, shardings)

    def unused(self) -> dict[str, np.ndarray]:
        """Tensors of its files that the graph does not use, as stored."""
        own = {key for header in self.folder.files.values() for key in header.tensors}
        return {key: np.array(self.folder.tensors[key].read()) for key in self.keys.unused if key in own}


def open_released(path: str | Path, overrides: Overrides | None = None) -> Released:
    """Understand a folder; no tensor is read but the norm that tells a difference to another model.

    Raises:
        WeightsError: no checkpoint, one of an unknown layout, pickle files, damaged files, a LoRA adapter, a difference
            without its base, or tensors that do not fit.
    """
    given = overrides or Overrides()
    adapter = read_peft(local_folder(given.adapter)) if given.adapter else None
    folder = read_folder(Path(path))
    folder = folder if adapter is None else _with_whole(folder, adapter)
    folder = _with_base(_with_towers(folder, given), given)
    shapes = {key: tensor.shape for key, tensor in folder.tensors.items()}
    layout, spec, skeleton, keys = understand(folder.config, shapes, overrides, str(path))
    folder = folder if adapter is None else _with_low(folder, adapter, layout.rules(spec), skeleton)
    _check_types(folder, keys)
    return Released(folder, layout, spec, skeleton, keys)


def understand(
    config: Config, shapes: Mapping[str, tuple[int, ...]], overrides: Overrides | None = None, source: str = "it"
) -> tuple[Layout, ModelSpec, Skeleton, KeyPlan]:
    """The layout and the model of a checkpoint, and which tensor makes what; from names and shapes alone.

    Raises:
        WeightsError: an unknown layout, or tensors that do not fit.
    """
    layout = find_layout(config, shapes, source)
    spec = layout.spec_of(config, Shapes(shapes), overrides or Overrides())
    skeleton = video_lm_skeleton(spec, jnp.float32)
    return layout, spec, skeleton, plan(layout.rules(spec), skeleton.shapes, shapes, source)


def find_layout(config: Config, keys: Collection[str], source: str) -> Layout:
    """The first layout that knows a checkpoint.

    Raises:
        WeightsError: none does.
    """
    for layout in LAYOUTS:
        if layout.detect(config, keys):
            return layout
    raise WeightsError(
        f"{source} is of no known layout ({', '.join(layout.name for layout in LAYOUTS)}): config.json says model_type "
        f"{config.get('model_type')!r}, architectures {config.get('architectures')!r}, and the tensors are called "
        f"{', '.join(sorted(keys)[:3])}, ..."
    )


def is_released(path: Path) -> bool:
    """Whether a folder looks like a released checkpoint (or an attempt at one) and not like a run."""
    return (path / CONFIG).is_file() and not (path / "spec.json").is_file()


def read_folder(path: Path) -> Folder:
    """The files of a checkpoint.

    Raises:
        WeightsError: no folder, no config.json, no safetensors file, or damaged ones.
    """
    if not path.is_dir():
        raise WeightsError(f"{path} is no folder; give a released checkpoint's folder, a run, or a hub id")
    adapters = sorted(file.name for file in path.iterdir() if file.name.startswith(ADAPTERS))
    if adapters:
        raise WeightsError(
            f"{path} holds a LoRA adapter ({', '.join(adapters)}), which is not read and would be missing from the "
            "model; give the folder or hub id of the model that it belongs to, and this one as its adapter: `vidlmm "
            f"convert BASE MERGED --adapter {path} --to original`"
        )
    config = read_fields(path / CONFIG, _WHOSE)
    names = _weight_files(path)
    files = {name: read_header(path / name) for name in names}
    tensors: dict[str, Stored] = {}
    for name, header in files.items():
        twice = sorted(set(header.tensors) & set(tensors))
        if twice:
            raise WeightsError(f"{path / name} holds tensors that another file holds too: {', '.join(twice)}")
        tensors |= header.tensors
    return Folder(path, config, files, tensors)


def _with_whole(folder: Folder, adapter: PeftFolder) -> Folder:
    """The folder with the tensors that were trained beside adapters in the place of its own, or behind them."""
    config = folder.config if adapter.config is None else adapter.config
    # transformers' modules are called as its files are, with "model." before it.
    own = {key: key.removeprefix("model.") for key in adapter.whole if key not in folder.tensors}
    whole = {own[k] if own.get(k) in folder.tensors else k: one for k, one in adapter.whole.items()}
    other = [
        f"{key} is {list(folder.tensors[key].shape)}, the adapter's {list(one.shape)}"
        for key, one in whole.items()
        if key in folder.tensors and folder.tensors[key].shape != one.shape
    ]
    if other:
        raise WeightsError(f"the adapter in {adapter.path} is not one of {folder.path}: {'; '.join(other)}")
    files = dict(_changed(folder, whole).files)
    last = list(files)[-1]
    new = {key: one for key, one in whole.items() if key not in folder.tensors}
    files[last] = replace(files[last], tensors={**files[last].tensors, **new})
    return replace(folder, files=files, config=config, tensors={**folder.tensors, **whole})


def _with_low(folder: Folder, adapter: PeftFolder, rules: Rules, skeleton: Skeleton) -> Folder:
    """The folder with adapters added to its tensors, whichever of a tensor's names they use."""
    names = {}
    for rule in rules:
        if isinstance(rule, Rule):
            shape = skeleton.shapes[rule.ours].shape[: rule.stacked]
            for same in (same for place in np.ndindex(shape) for same in rule.keys(place)):
                names |= {other: next((n for n in same if n in folder.tensors), other) for other in same}
    tensors = adapter.added(folder.tensors, names)
    return replace(_changed(folder, tensors), tensors=tensors)


def _changed(folder: Folder, tensors: Mapping[str, Stored]) -> Folder:
    """The folder whose files hold these tensors in the place of their own."""
    files = {
        name: replace(header, tensors={key: tensors.get(key, one) for key, one in header.tensors.items()})
        for name, header in folder.files.items()
    }
    return replace(folder, files=files)


def _with_towers(folder: Folder, overrides: Overrides) -> Folder:
    """The folder with the tensors of towers that the release leaves out."""
    layout = find_layout(folder.config, folder.tensors, str(folder.path))
    tensors = dict(folder.tensors)
    for field_name, prefix in left_out(layout, folder.config, folder.tensors, overrides.towers).items():
        source = find_tower(layout, folder.config, field_name, overrides.towers)
        tensors |= tower_tensors(source, _weight_files(source), prefix)
    return replace(folder, tensors=tensors)


def _with_base(folder: Folder, overrides: Overrides) -> Folder:
    """The folder with what it is the difference to added."""
    layout = find_layout(folder.config, folder.tensors, str(folder.path))
    differs = bool(layout.norm) and delta.is_delta(folder.tensors.get(layout.norm))
    if not differs and overrides.base:
        raise WeightsError(
            f"{folder.path} is a whole model; base={overrides.base!r} would be added to it, leave it out"
        )
    if differs and not overrides.base:
        raise WeightsError(
            f"{folder.path} is no model but the difference to one: its last norm, {layout.norm}, is near zero "
            "everywhere. Valley-13b-v1 is released so, as a difference to LLaMA 13B; give base=, that model's folder "
            "or hub id"
        )
    if not differs:
        return folder
    base = local_folder(overrides.base)
    return replace(folder, tensors=delta.added(folder.tensors, base, _weight_files(base), str(folder.path)))


def _check_types(folder: Folder, keys: KeyPlan) -> None:
    """Refuse quantised weights: as numbers they are not the model's."""
    odd = [key for key in keys.origins() if folder.tensors[key].dtype not in FLOATS]
    if odd:
        kinds = sorted({folder.tensors[key].dtype for key in odd})
        raise WeightsError(
            f"{folder.path} holds {len(odd)} weights as {', '.join(kinds)}, such as {sorted(odd)[0]}; quantised "
            "weights are not known, take the release in float32, float16 or bfloat16"
        )


def _weight_files(path: Path) -> list[str]:
    """Names of the safetensors files: those that the index lists, else all."""
    if (path / INDEX).is_file():
        listed = read_fields(path / INDEX, _WHOSE).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
            raise WeightsError(f"{path / INDEX} has no weight_map of keys and file names")
        names = sorted(set(listed.values()))
        outside = [name for name in names if Path(name).name != name]
        absent = [name for name in names if not (path / name).is_file()]
        if outside or absent:
            raise WeightsError(f"{path / INDEX} lists files that are not in the folder: {', '.join(outside + absent)}")
        return names
    found = sorted(file.name for file in path.glob("*.safetensors"))
    if not found:
        raise WeightsError(_no_weights(path))
    return found


def _no_weights(path: Path) -> str:
    pickles = sorted(file.name for file in path.iterdir() if file.suffix in PICKLES)
    if not pickles:
        return f"{path} holds no .safetensors file"
    return (
        f"{path} holds pickle files alone ({', '.join(pickles)}), which can run any code when they are read and are "
        "never opened here. Convert them where you trust them, with torch: "
        "safetensors.torch.save_file({k: v.contiguous() for k, v in torch.load(FILE, map_location='cpu', "
        "weights_only=True).items()}, 'model.safetensors')"
    )
