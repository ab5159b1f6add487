"""What keeps an evaluation from starting or going on."""


class EvalError(ValueError):
    """Questions, media, or an earlier evaluation's answers that do not fit; the message says what to do."""
