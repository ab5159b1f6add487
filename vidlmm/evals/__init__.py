"""Answers into scores: careful parsing, confidence intervals, and the blind and majority scores beside each number."""
