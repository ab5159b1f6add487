"""What every verb that compiles sets once: the compiler's cache on disk."""

import os
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache


def cache_folder() -> Path | None:
    """Where compiled programs are kept: `$VIDLMM_CACHE/jax`, by default `~/.cache/vidlmm/jax`.

    None when VIDLMM_CACHE is set to nothing or to "off".
    """
    chosen = os.environ.get("VIDLMM_CACHE")
    if chosen is not None and chosen.strip().lower() in ("", "off"):
        return None
    root = Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "vidlmm"
    return root / "jax"


def use_compilation_cache() -> Path | None:
    """Keep compiled programs on disk, so that the same command does not compile again.

    Returns the folder, or None when the cache is turned off or its folder cannot be written (a read-only home must
    not keep a model from answering; `vidlmm doctor` shows which it is).
    """
    folder = cache_folder()
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            folder = None
        else:
            folder = folder if os.access(folder, os.W_OK) else None
    chosen = None if folder is None else str(folder)
    if getattr(jax.config, "jax_compilation_cache_dir") != chosen:  # noqa: B009 (not in the type stubs)
        jax.config.update("jax_compilation_cache_dir", chosen)
        # jax decides once, at its first compilation, whether there is a cache; this makes it look again.
        compilation_cache.reset_cache()
    if folder is not None:
        # Everything is worth keeping: many small programs make up a start, too.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return folder
