"""What README and docs promise is there."""

import json
import re
from pathlib import Path

import pytest

from vidlmm.cli.main import VERBS

TOP = Path(__file__).parents[2]
PAGES = sorted([*TOP.glob("*.md"), *TOP.glob("docs/**/*.md")])
NOTEBOOKS = sorted(TOP.glob("colab/*.ipynb"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_readme_shows_every_verb():
    shown = set(re.findall(r"^\| `vidlmm (\w+)", (TOP / "README.md").read_text(), re.MULTILINE))
    assert shown == set(VERBS)


def test_documents_name_targets_that_exist():
    targets = set(re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    named = {word for page in PAGES for word in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE)}
    assert {"quickstart", "test"} <= named <= targets


def test_the_table_of_lanes_is_that_of_ci():
    lanes = re.search(r"lanes=\(([a-z0-9 ]+)\)", (TOP / ".ci" / "run").read_text())
    told = re.findall(r"^\| ([a-z0-9]+) \| ", (TOP / "docs" / "testing.md").read_text(), re.MULTILINE)
    assert lanes is not None
    assert told[1:] == lanes[1].split()  # the first row is the table's head


def test_there_is_a_notebook():
    assert NOTEBOOKS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.name)
def test_notebooks_are_stored_without_outputs(notebook):
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
