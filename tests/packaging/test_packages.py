"""What is installed: every folder with code, once, under vidlmm."""

import runpy
import shutil
import tomllib
from pathlib import Path

import pytest
import setuptools

TOP = Path(__file__).parents[2]
MOUNTED = ("configs", "kernels", "launch")


def setup_arguments(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """What setup.py hands to setuptools when it runs in `folder`."""
    seen = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: seen.update(arguments))
    monkeypatch.chdir(folder)
    runpy.run_path(str(folder / "setup.py"))
    return seen


def folders_with_code() -> set[str]:
    """Dotted names of all folders that hold Python files, as they are installed."""
    own = {file.parent.relative_to(TOP) for file in (TOP / "vidlmm").rglob("*.py")}
    own = {path for path in own if path.parts[1:2] not in [(name,) for name in MOUNTED]}
    mounted = {file.parent.relative_to(TOP) for name in MOUNTED for file in (TOP / name).rglob("*.py")}
    return {".".join(path.parts) for path in own} | {".".join(("vidlmm", *path.parts)) for path in mounted}


def test_every_folder_with_code_is_a_package_and_is_listed_once(monkeypatch):
    listed = setup_arguments(TOP, monkeypatch)["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == folders_with_code()


def test_a_checkout_without_links_gives_the_same_list(monkeypatch, tmp_path):
    with_links = setup_arguments(TOP, monkeypatch)
    for name in ("vidlmm", *MOUNTED):
        shutil.copytree(TOP / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in MOUNTED:
        (tmp_path / "vidlmm" / name).unlink()
        (tmp_path / "vidlmm" / name).write_text(f"../{name}")  # what git writes where links are turned off
    shutil.copy(TOP / "setup.py", tmp_path)
    assert setup_arguments(tmp_path, monkeypatch) == with_links


def test_the_links_say_the_same_as_setup(monkeypatch):
    mapping = setup_arguments(TOP, monkeypatch)["package_dir"]
    links = {f"vidlmm.{link.name}": link.resolve().name for link in (TOP / "vidlmm").iterdir() if link.is_symlink()}
    assert links == mapping


def test_every_data_file_of_the_package_matches_a_pattern():
    """A file that no pattern names would be missing from the wheel."""
    patterns = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    ours = [p for name in ("vidlmm", *MOUNTED) for p in (TOP / name).rglob("*") if p.is_file() and not p.is_symlink()]
    data = [p for p in ours if p.suffix not in (".py", ".pyc")]
    base = TOP / "vidlmm" / "quickstart" / "base"
    assert TOP / "vidlmm" / "py.typed" in data
    left_out = [p for p in data if p.parent != base and not any(p.match(pattern) for pattern in patterns["*"])]
    assert left_out == []
