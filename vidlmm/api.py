"""What users hold: a trained model that answers."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from vidlmm.checkpoint.run import load_model
from vidlmm.generate import Answer, Chat, Generator, Prompt, Sampling, conversation
from vidlmm.generate.prompts import MediaKind
from vidlmm.media.suffixes import IMAGE_SUFFIXES
from vidlmm.models import VideoLM
from vidlmm.parallel import use_compilation_cache
from vidlmm.spec import ModelSpec
from vidlmm.text import Tokenizer, load_tokenizer

File = str | os.PathLike[str]


class Model:
    """A model, its tokenizer, and the ways to ask it.

    module: the network (`vidlmm.VideoLM`). spec: how it sees media; the module's own unless changed by `load`.
    """

    def __init__(self, module: VideoLM, tokenizer: Tokenizer, *, spec: ModelSpec | None = None, slots: int = 8) -> None:
        self.module, self.tokenizer = module, tokenizer
        self.spec = spec or module.spec
        self.generator = Generator(module, tokenizer, slots=slots)

    def chat(
        self,
        media: File | Sequence[File],
        question: str,
        *,
        sampling: Sampling | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> str:
        """The answer to one question about videos and pictures.

        Args:
            media: a file, or several; pictures are told from videos by their names' endings.
            sampling: how the answer is drawn; None takes the likeliest tokens.
            on_text: gets the answer piece by piece while it is written.

        Raises:
            MediaError: a file does not open.
            PromptError: the media and the question are too long for the model.
        """
        return self.conversation(media, sampling=sampling).ask(question, on_text)

    def conversation(self, media: File | Sequence[File] = (), *, sampling: Sampling | None = None) -> Chat:
        """A conversation about some files, in which each answer sees the ones before; see `chat`."""
        files = cast("Sequence[File]", media if isinstance(media, Sequence) and not isinstance(media, str) else [media])
        return conversation(self.generator, [(kind_of(file), file) for file in files], sampling, spec=self.spec)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling | None = None, **callbacks: Any) -> list[Answer]:
        """Answers to many prompts at once; see `vidlmm.generate.Generator.generate`."""
        return self.generator.generate(prompts, sampling, **callbacks)


def load(run: File, *, frames: int | None = None, slots: int = 8, dtype: Any = None) -> Model:
    """The model of a finished run.

    Compiled programs are kept on disk from here on (VIDLMM_CACHE), so that the next process need not compile them.

    Args:
        run: the folder that `vidlmm train` or `vidlmm quickstart` made.
        frames: frames that a video shows, in place of the spec's.
        slots: prompts that are answered at the same time.
        dtype: type of the weights in memory and of the computation; None is float32.

    Raises:
        RunFolderError: no run, or one that is not finished.
        WeightsError: weights that do not fit the spec.
        ValueError: a number of frames that the spec's rule does not allow.
    """
    use_compilation_cache()
    module, tokenizer = load_model(Path(run), **({} if dtype is None else {"dtype": dtype}))
    spec = module.spec
    if frames is not None:
        spec = dataclasses.replace(spec, frames=dataclasses.replace(spec.frames, count=frames))
    return Model(module, load_tokenizer(tokenizer), spec=spec, slots=slots)


def kind_of(file: File) -> MediaKind:
    """Whether a file is shown as a picture or as a video; what it really is shows when it is opened."""
    return "image" if Path(file).suffix.lower() in IMAGE_SUFFIXES else "video"
