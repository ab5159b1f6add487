"""The hashed requirements: complete, hashed, without addresses, and in step with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
FILES = ("runtime", "dev")


def read(name: str) -> str:
    return (TOP / "requirements" / f"{name}.txt").read_text()


def pins(name: str) -> dict[str, set[str]]:
    """Package to its pinned versions (one for each range of Pythons that needs another)."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([a-z0-9-]+)==([^\s;]+)", read(name), re.MULTILINE):
        found.setdefault(package, set()).add(version)
    return found


def wanted(requirements: list[str]) -> set[str]:
    names = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in names if match}


@pytest.mark.parametrize("name", FILES)
def test_every_entry_is_pinned_and_hashed(name):
    entries = re.split(r"\n(?=\S)", read(name).strip())
    assert entries[0].startswith("#") and len(entries) > 50
    for entry in entries[1:]:
        assert re.match(r"[a-z0-9-]+==\S+", entry) and "--hash=sha256:" in entry, entry.splitlines()[0]


@pytest.mark.parametrize("name", FILES)
def test_no_address_is_written_down(name):
    assert not re.search(r"://|--(extra-)?index-url|--find-links|@ ", read(name))


@pytest.mark.parametrize("name", FILES)
def test_packages_of_accelerators_are_left_to_the_extras(name):
    assert not [
        p for p in pins(name) if p in ("torch", "libtpu", "tensorflow") or p.startswith(("nvidia-", "jax-cuda"))
    ]


def test_what_pyproject_asks_for_is_pinned():
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    build = (TOP / "requirements" / "build.in").read_text().split()
    assert wanted(project["dependencies"]) | wanted(build) <= set(pins("runtime"))
    assert wanted(project["optional-dependencies"]["dev"]) <= set(pins("dev"))


def test_dev_holds_runtime_with_the_same_versions():
    runtime, dev = pins("runtime"), pins("dev")
    assert {package: dev.get(package) for package in runtime} == runtime
