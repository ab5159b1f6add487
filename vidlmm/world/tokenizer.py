"""The small tokenizer of the quickstart: byte-level BPE over the world's own sentences."""

from collections.abc import Iterable, Iterator

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from vidlmm.world.captions import level_1, level_2, level_3, still_caption, stretches
from vidlmm.world.questions import ask
from vidlmm.world.script import Script

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def sentences(scripts: Iterable[Script], seed: int) -> Iterator[str]:
    """Everything the world says about these scripts."""
    for script in scripts:
        yield level_3(script)
        yield still_caption(script, 0.0)
        yield level_2(script, stretches(script))
        for number in range(stretches(script)):
            yield level_1(script, number)
        for question in ask(script, seed):
            yield question.question
            yield from (f"{letter}. {option}." for letter, option in zip("ABCDE", question.options, strict=False))
            yield f"\n{question.answer}"


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
