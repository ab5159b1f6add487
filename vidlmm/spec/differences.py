"""What differs between a system's paper, its release and other releases of it, a line each.

A line belongs to every system whose name is one of its names or begins with it, so that all values of a family share
what holds for all of them.
"""

_LINES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("llava_video",),
        "pooling: the paper averages (13 x 13 cells of 27 x 27), the release interpolates bilinearly (14 x 14); the "
        "evaluation command of its documentation sets average again",
    ),
    (
        ("llava_video",),
        "newline: not in the paper; the release ends every grid row of every frame with one (grid), so that 64 frames "
        "take 64 x 14 x 15 = 13,440 tokens",
    ),
    (
        ("llava_video_7b",),
        "SlowFast: none, in the paper (V = (64, 729, 1, 2)) and in the release",
    ),
    (
        ("llava_video_72b",),
        "SlowFast: the paper has every third frame slow (V = (64, 729, 3, 2)); the public script has none, and the "
        "public code of it does not run",
    ),
    (("llava_video_72b",), "frames: the paper shows 64, the public script trains with 32"),
    (
        ("llava_video",),
        "SlowFast's count: the paper pools both groups with p and rounds the number of slow frames down; the code "
        "pools with p and 2p and rounds it up",
    ),
    (
        ("llava_video",),
        "frame times: training writes them before the question; a released config.json may still say "
        "add_time_instruction false",
    ),
    (
        ("llava_onevision",),
        "videos: all pooled frames and one newline at their end; config.json without mm_newline_position means that",
    ),
    (
        ("llava_onevision_hf",),
        "transformers' port: a video is always pooled bilinearly with one newline at its end; grid newlines and "
        "SlowFast cannot be written",
    ),
    (
        ("llava_onevision_hf",),
        "transformers' port: canvases are listed height first, and the border of a tiled picture is rounded, not "
        "floored, before it is cut",
    ),
    (
        ("videollama2_7b", "videollama2_8x7b", "videollama2_72b"),
        "connector: the paper pads nothing (8 frames give 4 x 12 x 12 = 576 tokens), the released stc_connector pads "
        "its convolution on all sides (5 x 13 x 13 = 845)",
    ),
    (
        ("videollama2_1",),
        "connector: stc_connector_v35 pads nothing; the last row and column of the 27 x 27 patches are not looked at",
    ),
    (
        ("videollama2",),
        "pixels: the paper and the fine-tuning scripts pad frames to a square, the released inference does not",
    ),
    (
        ("videollama2_7b",),
        "frames: the model of 8 frames was trained with borders of segments that were rounded first, inference takes "
        "the centres; some indices differ by one",
    ),
    (
        ("videollama2",),
        "a picture is shown as often as a video has frames, and takes as many tokens",
    ),
    (
        ("videollama2",),
        "batches: 1,024 and 2,048 in the paper, 256 and 128 in the public scripts, which train on Video-LLaVA's data",
    ),
    (
        ("videollama2_1_7b_av",),
        "sound: the paper cuts it to the video's clips; the release joins eight pieces of 2 s and fills 30 s up with "
        "zeros, so that it always takes 1,496 tokens",
    ),
    (
        ("valley", "valley2"),
        "projector: the paper projects after the module along time, the release before it (for v1 the same numbers)",
    ),
    (("valley", "valley2"), "frames: the paper takes one every two seconds, the release trains and answers with 8"),
    (
        ("valley", "valley2"),
        "stage 2: learning rate 2e-5 in the paper's text and the release, 5e-5 in the paper's Table 6; batch 32 in the "
        "paper, 8 in the release",
    ),
    (
        ("valley_7b",),
        "weights: no release of v2 or v3 is known; the released models take the mean over frames (v1)",
    ),
    (("valley_13b_v1",), "weights: released as a difference to LLaMA 13B, which has to be added before it is loaded"),
    (
        ("llava_hound",),
        "tokens: 8 x 256, class tokens left out, as in the paper; Video-LLaVA, its base, keeps them (8 x 257)",
    ),
    (
        ("llava_hound",),
        "frames: of a video file the released reader sees the first ten seconds, of a folder of frames all",
    ),
    (
        ("llava_hound",),
        "sampling for preferences: the paper gives temperature 1.0, the code adds top_p 0.95",
    ),
    (
        ("llava_hound",),
        "DPO: the projector is frozen and the share of the SFT loss (gamma) is 0 in the script, 1.0 by default",
    ),
    (
        ("video_llava",),
        "prompt: trained with 'a curious user', the released inference says 'a curious human'",
    ),
    (
        ("video_llava",),
        "frames: the released readers of video files flip them at random, at inference too; here they are never "
        "flipped",
    ),
    (
        ("video_llava_hf", "video_llava_7b_hf"),
        "transformers' port: no attention along time (its conversion dropped it), and quick_gelu in the towers where "
        "the original has exact GELU, unless config.json names it; its numbers for videos are not the original's",
    ),
    (
        ("llavaction",),
        "action losses: the paper gives no weights; the code's come to 0.025 (verb), 0.025 (noun) and 0.005 (action)",
    ),
    (
        ("llavaction",),
        "temporal detection: the question asks for 'start: end', the trained answer is 'start, end'",
    ),
    (
        ("llavaction",),
        "earlier actions: told in three of ten of the questions that have two of them, not of all questions",
    ),
)


def differences(system: str) -> tuple[str, ...]:
    """What differs from the paper and between releases of a system, by its name; none where nothing is known."""
    return tuple(
        line for names, line in _LINES if any(system == name or system.startswith(f"{name}_") for name in names)
    )
