"""The main job at laptop size: a world of clips, base weights, two training stages, an evaluation, a report."""
