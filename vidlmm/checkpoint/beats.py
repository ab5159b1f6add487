"""BEATs and its projector as VideoLLaMA 2.1-AV names their tensors (branch audio_visual, model/beats)."""

from vidlmm.checkpoint.keymap import Rule, Rules, Unused
from vidlmm.checkpoint.layout import Config, Shapes
from vidlmm.checkpoint.parts import attention_rules, linear_rules, norm_rules, reshaped, transposed, untransposed
from vidlmm.checkpoint.sizes import ACTIVATIONS
from vidlmm.checkpoint.weights import WeightsError
from vidlmm.spec.audio import AudioSpec

TOWER = "model.audio_tower."
PROJECTOR = "model.mm_projector_a."
_LAYER = f"{TOWER}encoder.layers.{{i}}."
_ATTENTION = f"{_LAYER}self_attn."
_RELATIVE = f"{_ATTENTION}relative_attention_bias.weight"
# The names of torch.nn.utils.weight_norm, and those of torch.nn.utils.parametrizations for the same tensors.
_POSITION = f"{TOWER}encoder.pos_conv.0."
_LENGTH = (f"{_POSITION}weight_g", f"{_POSITION}parametrizations.weight.original0")
_DIRECTION = (f"{_POSITION}weight_v", f"{_POSITION}parametrizations.weight.original1")


def holds_audio(shapes: Shapes) -> bool:
    """Whether the weights hold an audio tower."""
    return shapes.get(f"{TOWER}patch_embedding.weight") is not None


def audio_spec(config: Config, shapes: Shapes, audio_config: Config) -> AudioSpec:
    """The audio tower and projector whose tensors a release holds.

    Args:
        audio_config: fields of the original's BEATsConfig for what no tensor tells; by default they are its own.

    Raises:
        WeightsError: tensors that are needed are not there, or fields or sizes that are not known.
    """
    activation = audio_config.get("activation_fn", "gelu")
    if audio_config.get("layer_norm_first"):
        raise WeightsError("audio_config says layer_norm_first; known is BEATs whose norms stand after each part")
    if activation not in ACTIVATIONS:
        raise WeightsError(f"audio_config says activation_fn {activation!r}; known are {list(ACTIVATIONS)}")
    patch, direction = shapes.need(f"{TOWER}patch_embedding.weight"), shapes.need(*_DIRECTION)
    mlp, width = shapes.need(f"{_LAYER}fc1.weight")
    gates, relative = shapes.get(f"{_ATTENTION}grep_a"), shapes.get(_RELATIVE)
    told_heads = int(audio_config.get("encoder_attention_heads", AudioSpec.heads))
    try:
        return AudioSpec(
            patch=patch[-1],
            patch_bias=shapes.get(f"{TOWER}patch_embedding.bias") is not None,
            embed=patch[0],
            layers=shapes.count(f"{_LAYER}fc1.weight"),
            width=width,
            heads=gates[1] if gates else relative[1] if relative else told_heads,
            mlp=mlp,
            activation=ACTIVATIONS[activation],
            position_kernel=direction[-1],
            position_groups=width // direction[1],
            buckets=relative[0] if relative else 0,
            max_distance=int(audio_config.get("max_distance", AudioSpec.max_distance)),
            gated=gates is not None and relative is not None,
            deep_norm=bool(audio_config.get("deep_norm", AudioSpec.deep_norm)),
            gradient_decay=float(audio_config.get("layer_wise_gradient_decay_ratio", AudioSpec.gradient_decay)),
            projector_layers=_projector_layers(config, shapes),
        )
    except ValueError as error:
        raise WeightsError(f"the audio tower's tensors and audio_config do not go together: {error}") from error


def audio_rules(spec: AudioSpec) -> Rules:
    """Names of the tower's and the projector's tensors."""
    return (*beats_rules(spec), *projector_rules(spec))


def beats_rules(spec: AudioSpec, ours: str = "audio.") -> Rules:
    """Names of the tower's tensors. The classifier of its fine-tuning is carried through."""
    into = f"{ours}layers."
    side = spec.patch
    patches = reshaped((-1, side * side), (-1, 1, side, side))
    rules: list[Rule | Unused] = [
        Rule(
            f"{ours}patch",
            (f"{TOWER}patch_embedding.weight",),
            lambda tensors: patches[0](tensors).T,
            lambda array: patches[1](array.T),
        ),
        *norm_rules(f"{ours}patch_norm", f"{TOWER}layer_norm"),
        Rule(f"{ours}position_length", (_LENGTH,), *reshaped((-1,), (1, 1, -1))),
        Rule(
            f"{ours}position_direction",
            (_DIRECTION,),
            lambda tensors: tensors[0].transpose(2, 1, 0),
            lambda array: [array.transpose(2, 1, 0)],
        ),
        Rule(f"{ours}position_bias", (f"{_POSITION}bias",)),
        *norm_rules(f"{ours}norm", f"{TOWER}encoder.layer_norm"),
        *attention_rules(spec.heads, into, _ATTENTION),
        *norm_rules(f"{into}norm1", f"{_LAYER}self_attn_layer_norm"),
        *linear_rules(f"{into}up", f"{_LAYER}fc1"),
        *linear_rules(f"{into}down", f"{_LAYER}fc2"),
        *norm_rules(f"{into}norm2", f"{_LAYER}final_layer_norm"),
        Unused(f"{TOWER}predictor.*"),
    ]
    if spec.patch_bias:
        rules.append(Rule(f"{ours}patch_bias", (f"{TOWER}patch_embedding.bias",)))
    if spec.embed != spec.width:
        rules += linear_rules(f"{ours}project", f"{TOWER}post_extract_proj")
    if spec.buckets:
        rules.append(_relative_rule(spec.layers, f"{ours}relative"))
    if spec.buckets and spec.gated:
        rules += linear_rules(f"{into}gate", f"{_ATTENTION}grep_linear")
        rules.append(Rule(f"{into}gate_weight", (f"{_ATTENTION}grep_a",), *reshaped((-1,), (1, -1, 1, 1))))
    else:
        rules.append(Unused(f"{_ATTENTION}grep_*"))
    return tuple(rules)


def projector_rules(spec: AudioSpec, ours: str = "audio_projector.") -> Rules:
    """Names of the projector's tensors: every other number is an activation; a single layer may have no number."""
    rules: list[Rule] = []
    for n in range(spec.projector_layers):
        names = [f"{PROJECTOR}{2 * n}."] + ([PROJECTOR] if spec.projector_layers == 1 else [])
        weights, biases = (tuple(f"{name}{part}" for name in names) for part in ("weight", "bias"))
        rules.append(Rule(f"{ours}weights.{n}", (weights,), transposed, untransposed))
        rules.append(Rule(f"{ours}biases.{n}", (biases,)))
    return tuple(rules)


def _relative_rule(layers: int, ours: str) -> Rule:
    """The table that all layers share. A release holds one copy of it or one a layer; all that it holds are written."""
    copies = [_RELATIVE.format(i=i) for i in range(layers)]
    return Rule(
        ours,
        tuple((own, *(other for other in copies if other != own)) for own in copies),
        lambda tensors: tensors[0],
        lambda array: [array] * layers,
    )


def _projector_layers(config: Config, shapes: Shapes) -> int:
    """Linear layers of the projector; where the weights hold none, those that they lack."""
    if shapes.get(f"{PROJECTOR}weight"):
        return 1
    held = (shapes.count(f"{PROJECTOR}{{i}}.weight") + 1) // 2
    return held or (0 if config.get("mm_projector_a_type") == "identity" else AudioSpec.projector_layers)
