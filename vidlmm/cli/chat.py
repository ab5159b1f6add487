"""`vidlmm chat`: questions about videos and images."""

import argparse
from pathlib import Path


class Media(argparse.Action):
    """Keeps videos and images in the order in which they are named."""

    def __call__(self, parser, namespace, values, option_string=None):
        kind = (option_string or "--video").removeprefix("--")
        namespace.media = [*namespace.media, (kind, Path(str(values)))]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="folder of a trained model, such as runs/quickstart")
    parser.add_argument("question", nargs="?", help="one question; without it a conversation is opened")
    parser.add_argument("--video", action=Media, dest="media", default=[], metavar="FILE", help="may be repeated")
    parser.add_argument("--image", action=Media, dest="media", default=[], metavar="FILE", help="may be repeated")
    parser.add_argument("--max-new-tokens", type=int, default=64, help="longest answer, in tokens (default: 64)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token (default: 0)")
    parser.add_argument("--top-p", type=float, default=1.0, help="share of probability to sample from (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling (default: 0)")


def run(args: argparse.Namespace) -> int:
    from vidlmm.generate.chat import chat
    from vidlmm.generate.sampling import Sampling

    sampling = Sampling(args.max_new_tokens, args.temperature, args.top_p, args.seed)
    chat(args.run, args.media, args.question, sampling)
    return 0
