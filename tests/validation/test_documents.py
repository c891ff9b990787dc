"""Data Docs are pages of Great Expectations that need no network, no script, and show what was found."""

import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.tables import Tables
from tests.builders import picture
from tests.extras import extra
from tests.validation.test_datasets import judged
from tests.validation.test_expectations import TERMS, cleaned_tables, label
from tests.validation.test_own import WIDE
from validation.documents import as_result, build_docs
from validation.own import Own, judge_own, own_expectations, read_own
from validation.suites import expectations, judge, merged

HOSTILE = "<img src=x onerror=alert(1)><script>document.title='run'</script> </style> {{ 7 * 7 }} ${x} &amp;"
AT = "2026-01-02T03:04:05Z"


@pytest.fixture(scope="module")
def shard() -> Tables:
    """Two labels, one of them broken."""
    return cleaned_tables(picture("a.jpg", label(), label((1, 1, 40, 40), HOSTILE)))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Own:
    """A suite whose texts are hostile."""
    path = tmp_path_factory.mktemp("own") / "own.json"
    pattern = {
        "type": "expect_column_values_to_match_regex",
        "kwargs": {"column": "label", "regex": HOSTILE.replace("(", "").replace(")", "").replace("{", "")},
        "description": HOSTILE,
    }
    told = {"name": f"../{HOSTILE}", "expectations": [WIDE | {"meta": {"notes": HOSTILE}, "notes": HOSTILE}, pattern]}
    path.write_text(json.dumps(told))
    return read_own(path, ())


@pytest.fixture(scope="module")
def docs(shard: Tables, own: Own, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the pages of all suites, made without a network."""
    folder = tmp_path_factory.mktemp("report") / "data_docs"
    said = [as_result(told, expectations(TERMS, told["table"]), AT) for told in merged(judge(shard, TERMS).results)]
    theirs = judge_own(shard, own).results
    said += [as_result(told, own_expectations(own, told["table"]), AT) for told in theirs]
    said.append(judged(shard).told)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", no_network)
        assert build_docs(said, folder) == folder / "index.html"
    return folder


def no_network(*_: Any) -> None:
    """Refuse every connection."""
    raise AssertionError("network")


def test_a_result_counts_over_all_shards(shard: Tables) -> None:
    """As Great Expectations tells it: expectations, rows that break one, and its share of them."""
    told = merged([*judge(shard, TERMS).results, *judge(shard, TERMS).results])[1]
    result = as_result(told, expectations(TERMS, "annotations"), AT)
    assert (result["success"], result["suite_name"]) == (False, "clean_annotations")
    assert result["statistics"]["evaluated_expectations"] == 13
    failing = [
        (each["expectation_config"]["type"], each["result"]) for each in result["results"] if not each["success"]
    ]
    counted = {"element_count": 4, "unexpected_count": 2, "unexpected_percent": 50.0}
    assert failing == [("expect_column_values_to_be_in_set", counted)]


def test_every_suite_has_a_page_and_every_link_a_place(docs: Path) -> None:
    """The index names all; pages link to each other and to parts of themselves, and nowhere else."""
    names = {path.name for path in docs.iterdir()}
    assert {"index.html", "clean_images.html", "clean_annotations.html", "dataset.html"} < names
    assert len(names) == 9
    for path in docs.iterdir():
        page = path.read_text(encoding="utf-8")
        for link in re.findall(r'href="([^"]*)"', page):
            target, _, part = link.partition("#")
            assert (target or path.name) in names
            assert not part or f'id="{part}"' in page
    index = (docs / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{name}"' in index for name in names - {"index.html"} if not name.endswith("_suite.html"))


def test_pages_tell_nothing_of_this_machine(docs: Path) -> None:
    """No path, no name of a user or a host, and no address of another site."""
    for path in docs.iterdir():
        page = path.read_text(encoding="utf-8")
        for told in (str(docs.parent), str(Path.cwd()), str(Path.home()), socket.gethostname(), "http://", "https://"):
            assert told not in page


def test_pages_may_be_built_again(docs: Path, shard: Tables, tmp_path: Path) -> None:
    """With what a later run found; other pages stay."""
    again = shutil.copytree(docs, tmp_path / "again")
    build_docs([judged(shard).told], again)
    index = (again / "index.html").read_text(encoding="utf-8")
    assert "dataset.html" in index and "clean_images.html" not in index
    assert (again / "clean_images.html").exists()


@pytest.fixture(scope="module")
def page(docs: Path) -> Iterator[Any]:
    """A page of a browser. Without one the tests are skipped; in CI, where it is installed, they fail."""
    path = shutil.which("chromium")
    if path is None:
        reason = "a program is missing: chromium (apt-get install chromium fonts-dejavu-core)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with extra("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser.new_page()
        browser.close()


def test_they_render_without_asking_for_anything(page: Any, docs: Path) -> None:
    """In a browser: only the pages themselves are loaded, nothing is run, and what was found is seen."""
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    paths = sorted(docs.glob("*.html"))
    for path in paths:
        page.goto(path.as_uri())
        assert page.title().endswith("Data Docs")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("script").count() == 0
    assert (asked, wrong) == ([path.as_uri() for path in paths], [])
    page.goto((docs / "clean_annotations.html").as_uri())
    assert page.get_by_role("heading", level=1).inner_text() == "clean_annotations"
    broken = page.get_by_role("row").filter(has_text="Every label is one of the vocabulary").first
    assert "1 unexpected values found" in broken.inner_text()
    mark = "each => getComputedStyle(each, '::before').content"
    assert broken.locator("i").evaluate(mark) == '"✗"'
    page.get_by_role("link", name="clean_annotations").click()
    assert "This Expectation suite currently contains 13 total Expectations" in page.locator("main").inner_text()


def test_hostile_texts_are_shown_as_they_are(page: Any, docs: Path) -> None:
    """Names, descriptions and patterns of a person's suite make no element of the page."""
    theirs = [path for path in docs.glob("own*.html") if not path.name.endswith("_suite.html")]
    assert len(theirs) == 1
    page.goto(theirs[0].as_uri())
    assert page.locator("img, script").count() == 0
    assert page.get_by_role("heading", level=1).inner_text() == f"own.../{HOSTILE}_annotations"
    assert HOSTILE in page.locator("main").inner_text()
