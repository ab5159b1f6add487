"""Which recipes stand on which slices in docs/scale.md."""

from collections.abc import Iterator
from dataclasses import dataclass

from vidlmm.configs import load_config, packaged_configs
from vidlmm.train.setup import plain

SEVEN = "LLaVA-Video 7B, 64 frames"
SEVEN_LONG = "LLaVA-Video 7B, 256 frames"
LARGE = "LLaVA-Video 72B, 64 frames"
LARGE_LONG = "LLaVA-Video 72B, 256 frames"
SPARSE = "VideoLLaMA 2 8x7B, 8 frames"
EVERY = "Every recipe"
# 256 frames of 182 places are 46,592, and of every third frame 183 and of the others 43 they are 23,048; their times
# and a question are about 4,000.
_LONG = {SEVEN_LONG: 51200, LARGE_LONG: 28672}
_CONFIG = {
    SEVEN: "llava_video_7b", SEVEN_LONG: "llava_video_7b",
    LARGE: "llava_video_72b", LARGE_LONG: "llava_video_72b", SPARSE: "videollama2_8x7b_finetune",
}  # fmt: skip
# section, topology, sizes of mesh axes beside fsdp (which takes what is left), rows of a batch, remat. The tower's
# width of 1,152 is cut into at most 128 parts.
_ROWS: tuple[tuple[str, str, str, int, str], ...] = (
    (SEVEN, "v5e:8x8", "", 64, "offload"),
    (SEVEN, "v5e:16x16", "data=2", 256, "offload"),
    (SEVEN, "v5e:16x16*4", "data=2", 1024, "offload"),
    (SEVEN, "v5p:2x2x2", "", 8, "attention"),
    (SEVEN, "v5p:4x4x4", "", 64, "attention"),
    (SEVEN, "v5p:8x8x16", "data=8", 1024, "attention"),
    (SEVEN, "v6e:4x4", "", 16, "offload"),
    (SEVEN, "v6e:8x8", "", 64, "offload"),
    (SEVEN, "v6e:16x16", "data=2", 256, "offload"),
    (SEVEN, "tpu7x:2x2x2", "", 16, "attention"),
    (SEVEN, "tpu7x:4x4x4", "", 128, "attention"),
    (SEVEN_LONG, "v5e:16x16", "context=4", 64, "offload"),
    (SEVEN_LONG, "v5p:4x4x4", "context=2", 32, "attention"),
    (SEVEN_LONG, "v6e:8x8", "context=4", 16, "layer"),
    (SEVEN_LONG, "tpu7x:2x2x4", "context=2", 16, "attention"),
    (LARGE, "v5e:16x16", "tensor=4", 64, "offload"),
    (LARGE, "v5p:4x4x4", "", 64, "layer"),
    (LARGE, "v5p:8x8x8", "data=4", 512, "layer"),
    (LARGE, "v6e:16x16", "data=2", 256, "offload"),
    (LARGE, "tpu7x:2x4x4", "", 64, "layer"),
    (LARGE, "tpu7x:8x8x16", "data=16", 2048, "layer"),
    (LARGE_LONG, "v5p:4x8x8", "context=2", 128, "layer"),
    (LARGE_LONG, "tpu7x:4x4x4", "context=2", 64, "layer"),
    (SPARSE, "v5e:16x16", "", 256, "offload"),
    (SPARSE, "v5p:4x4x4", "expert=8", 64, "layer"),
    (SPARSE, "v5p:8x8x8", "expert=8", 512, "layer"),
    (SPARSE, "v6e:8x8", "", 64, "layer"),
    (SPARSE, "tpu7x:2x2x4", "expert=8", 32, "layer"),
)
# Recipes of a 7B whose rows are too long, or too many, for 64 chips with 16 GiB.
_LONG_ROWS = (
    "llava_video_7b", "llava_video_7b_released",
    "videollama2_finetune", "videollama2_1_finetune", "videollama2_1_pretrain",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line: a stage of a config (the last one under None) on a topology. overrides: without `--config.`"""

    section: str
    config: str
    topology: str
    overrides: tuple[str, ...] = ()
    stage: str | None = None

    @property
    def key(self) -> str:
        return " ".join(filter(None, (self.config, self.stage, self.topology, *self.overrides)))

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(f"--config.{override}" for override in self.overrides)


def scale_rows() -> Iterator[Row]:
    """The large recipes over the slices."""
    for section, topology, mesh, rows, remat in _ROWS:
        config = _CONFIG[section]
        batch = plain(load_config(config))["stages"][0]["batch"]
        # Frames that context and tower split evenly: two videos of 64 in the 7B's rows.
        length, frames = batch["length"], batch["frames"] // batch["rows"] // 8 * 8
        changes = [f"remat={remat}", *(f"mesh.{size}" for size in mesh.split())]
        if section in _LONG:
            length, frames = _LONG[section], 256
            changes += ["spec.frames.count=256", f"stages.0.batch.length={length}"]
        changes += [f"stages.0.batch.{name}={value}" for name, value in (("rows", rows), ("groups", rows))]
        changes.append(f"stages.0.batch.frames={rows * frames}")
        yield Row(section, config, topology, tuple(changes))


def every_recipe() -> Iterator[Row]:
    """Every stage of every packaged config, on a slice that suits its size."""
    for config in packaged_configs():
        topology, mesh = _slice(config)
        for stage in plain(load_config(config))["stages"]:
            yield Row(EVERY, config, topology, mesh, stage["name"])


def _slice(config: str) -> tuple[str, tuple[str, ...]]:
    """Where a recipe is planned, and its mesh where that is not fsdp alone."""
    if config.startswith(("quickstart", "finetune")):
        return "v5e:1x1", ()
    if config == "llava_video_72b_released":
        return "v5p:4x8x8", ("mesh.data=2",)
    large = "72b" in config or "8x7b" in config or config in _LONG_ROWS
    return "v5p:4x4x4" if large else "v5e:8x8", ()
