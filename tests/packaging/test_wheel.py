"""The built distributions (made by `make wheel`): everything is in them, and nothing twice."""

import tarfile
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
MOUNTED = ("configs", "kernels", "launch")

pytestmark = pytest.mark.wheel


def built(pattern: str) -> Path:
    found = sorted((TOP / "dist").glob(pattern))
    assert len(found) == 1, f"expected one dist/{pattern}, found {found}: run `make wheel`"
    return found[0]


def sources() -> set[str]:
    """Files of the package as they are installed."""
    own = [p for p in (TOP / "vidlmm").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    own = [p for p in own if p.relative_to(TOP).parts[1] not in MOUNTED]
    mounted = [p for name in MOUNTED for p in (TOP / name).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    return {p.relative_to(TOP).as_posix() for p in own} | {f"vidlmm/{p.relative_to(TOP).as_posix()}" for p in mounted}


def test_the_wheel_holds_every_file_of_the_package_once():
    with zipfile.ZipFile(built("*.whl")) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert len(names) == len(set(names))
    assert set(names) == sources()


def test_the_wheel_holds_the_licence_and_the_command():
    with zipfile.ZipFile(built("*.whl")) as wheel:
        told = {name.split("/")[-1]: name for name in wheel.namelist() if ".dist-info/" in name}
        assert {"LICENSE", "THIRD_PARTY_NOTICES.md"} <= set(told)
        assert "vidlmm = vidlmm.cli.main:main" in wheel.read(told["entry_points.txt"]).decode()


def test_the_sdist_holds_the_top_level_folders_where_they_stand():
    with tarfile.open(built("*.tar.gz")) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    assert {f"{name}/__init__.py" for name in MOUNTED} | {"setup.py", "pyproject.toml", "README.md"} <= names
    assert not [name for name in names if name.startswith(tuple(f"vidlmm/{m}/" for m in MOUNTED))]
