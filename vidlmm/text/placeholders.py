"""Ids that stand for something else than a row of the vocabulary.

The originals' own numbers (LLaVA's constants.py, VideoLLaMA 2's constants.py, Video-LLaVA's X tokens).
"""

IMAGE = -200
VIDEO = -201
AUDIO = -202
IGNORE = -100
"""The label of a position without loss."""
