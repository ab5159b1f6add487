"""`vidlmm train`: the stages of a configuration."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, help="a file such as configs/quickstart.py, or a packaged name")
    parser.add_argument("--workdir", type=Path, help="where the run is kept (default: runs/<config>)")
    parser.epilog = "Any field of the config is set by --config.NAME=VALUE, as in --config.seed=1."


def run(args: argparse.Namespace) -> int:
    from vidlmm.configs import load_config
    from vidlmm.quickstart.sources import open_source
    from vidlmm.train.loop import train

    config = load_config(args.config, args.overrides)
    train(config, args.workdir or Path("runs", Path(args.config).stem), open_source)
    return 0
