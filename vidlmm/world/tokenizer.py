"""The small tokenizer of the quickstart: byte-level BPE over the world's own sentences."""

from collections.abc import Iterable, Iterator

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from vidlmm.text import TEMPLATES, Turn, render
from vidlmm.world.dataset import LETTER_ONLY, all_turns, captions, multiple_choice
from vidlmm.world.questions import ask
from vidlmm.world.script import write_script
from vidlmm.world.words import BACKGROUNDS, COLOURS, SHAPES, SIZES

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def corpus(seed: int, scripts: int, template: str = "qwen_answer") -> Iterator[str]:
    """Everything the world says about so many training scripts, as it will be written down.

    The words of storyboards are told often enough to be pieces of their own.
    """
    words = "".join(f" {word}" for word in (*BACKGROUNDS, *COLOURS, *SHAPES, *SIZES, "dot"))
    for number in range(scripts):
        script = write_script(seed, "train", number)
        asked = ask(script, seed, most=3)
        turns = [*captions(script), *all_turns(script, seed, most=3, forms=(0.6, 0.3, 0.1, 0.0))]
        turns += [multiple_choice(question, LETTER_ONLY) for question in asked]
        for question, answer in turns:
            yield render((Turn("user", question), Turn("assistant", answer)), TEMPLATES[template])
        yield words


def train_tokenizer(texts: Iterable[str], vocab: int) -> str:
    """A tokenizer.json (its text) of `vocab` pieces: 256 bytes, Qwen's three marks, merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[AddedToken(piece, special=True) for piece in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str(pretty=True)
