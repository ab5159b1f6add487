"""BEATs reference cases: the original's tensors in our parameters, and our parameters as its tensors."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.checkpoint.released import case_inputs, case_tensors, load_case
from vidlmm.checkpoint.beats import audio_rules, audio_spec
from vidlmm.checkpoint.keymap import KeyPlan, plan
from vidlmm.checkpoint.layout import Shapes
from vidlmm.checkpoint.names import Skeleton, named, skeleton
from vidlmm.models.audio import AudioProjector
from vidlmm.models.beats import Beats
from vidlmm.spec import AudioSpec

Tensors = dict[str, np.ndarray]
OURS = ("model.audio_tower.", "model.mm_projector_a.")


class Ear(nnx.Module):
    """The audio side of a model, under the names that it has there."""

    def __init__(self, spec: AudioSpec, width: int):
        self.audio = Beats(spec, rngs=nnx.Rngs(0))
        self.audio_projector = AudioProjector(spec, width, rngs=nnx.Rngs(0))


class BeatsCase:
    """A case with its numbers and the model that its tensors make."""

    def __init__(self, folder: Path):
        self.case, self.stored = load_case(folder)
        self.inputs = case_inputs(self.case)
        self.tensors = {key: value for key, value in case_tensors(self.case).items() if key.startswith(OURS)}
        shapes = {key: value.shape for key, value in self.tensors.items()}
        config = {"mm_projector_a_type": "identity"} | self.case["config"]
        self.spec = audio_spec(config, Shapes(shapes), self.case["audio_config"])
        width = self.case["config"].get("hidden_size", self.spec.width)
        self.skeleton: Skeleton = skeleton(lambda: Ear(self.spec, width))
        self.plan: KeyPlan = plan(audio_rules(self.spec), self.skeleton.shapes, shapes, folder.name)
        self.model: Ear = self.skeleton.model({name: jnp.asarray(self._ours(name)) for name in self.skeleton.shapes})

    def released(self, params: Any) -> Tensors:
        """Parameters (or their gradients) as the original's tensors."""
        found: Tensors = {}
        arrays = named(params)
        for name, parts in self.plan.parts.items():
            for part in parts:
                array = np.asarray(arrays[name][part.place] if part.place else arrays[name])
                found |= dict(zip(part.keys, part.rule.save(array), strict=True))
        return found

    def check(self, name: str, found: Any, tolerance: float | None = None) -> None:
        """What the case stores of an output, and the mean over all of it, within the case's tolerance."""
        limit, full = self.case["tolerance"] if tolerance is None else tolerance, np.asarray(found)
        about = self.case["outputs"][name]
        assert list(full.shape) == about["shape"], name
        part = eval("full" + about["slice"], {"__builtins__": {}}, {"full": full})
        np.testing.assert_allclose(part, self.stored[name], atol=limit, rtol=0, err_msg=name)
        mean = full.astype(np.float64).mean()
        np.testing.assert_allclose(mean, self.stored[f"{name}_mean"], atol=limit, rtol=0, err_msg=name)

    def _ours(self, name: str) -> np.ndarray:
        parts = self.plan.parts[name]
        layers = [part.rule.load([self.tensors[key] for key in part.keys]) for part in parts]
        return np.stack(layers) if parts[0].place else layers[0]
