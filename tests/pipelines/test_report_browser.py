"""The report in a real browser: of 100,000 faces, on a wide screen and a phone, in light and in dark."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from pipelines.dataset import Dataset
from schemas.tables import CROPS
from tests.builders import LABELS
from tests.extras import extra
from tests.pipelines.test_report import EVALUATION, HOSTILE, committed, failures, filled, written

PICTURES, FRAMES, VIDEOS, FACES, LOST = 23_000, 7_000, 14, 100_000, 40
NAME = HOSTILE.replace("\udcff", "").replace("\x00", "")

OPEN = "document.querySelectorAll('details').forEach((each) => { each.open = true; })"

CONTRASTS = """() => {
  const pen = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const light = (colours) => {
    pen.clearRect(0, 0, 1, 1);
    for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
    const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].map((v) => {
      const s = v / 255;
      return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const seen = {};
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const own = node.parentElement;
    if (!node.data.trim() || !own.checkVisibility() || own.closest("title, style")) continue;
    const behind = [];
    for (let each = own; each; each = each.parentElement) behind.unshift(getComputedStyle(each).backgroundColor);
    const ink = own.closest("svg") ? getComputedStyle(own).fill : getComputedStyle(own).color;
    const [low, high] = [light(behind), light([...behind, ink])].sort((a, b) => a - b);
    seen[`${ink} on ${behind.join(" ")}`] = [(high + 0.05) / (low + 0.05), node.data.trim().slice(0, 40)];
  }
  return seen;
}"""
"""Returns the contrast of every pair of colours that a text has, by WCAG's formula, with one text that has it."""

CHARTS = """() => [...document.querySelectorAll("figure svg")].map((svg) => {
  const drawn = [...svg.querySelectorAll(".series rect, .series circle, .series path")].filter((shape) => {
    const box = shape.getBoundingClientRect(), style = getComputedStyle(shape);
    return Math.max(box.width, box.height) > 1 && (style.fill !== "none" || style.stroke !== "none");
  });
  const frame = svg.getBoundingClientRect();
  const first = Math.min(...drawn.map((shape) => shape.getBoundingClientRect().left));
  const outside = [...svg.querySelectorAll("text")].filter((text) => {
    const box = text.getBoundingClientRect();
    const over = text.closest(".axis.y") && box.right > first;
    return over || box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1;
  });
  const cut = outside.map((text) => text.textContent);
  return [svg.getAttribute("aria-label"), frame.width, frame.height, drawn.length, cut];
})"""
"""Returns for each chart its name, its size, how many shapes one sees, and which texts are cut off or lie on it."""


def large(folder: Path) -> Dataset:
    """Return a data set of 30,000 pictures and frames with 100,000 faces, some of them with crops."""
    random = np.random.default_rng(0)
    items = PICTURES + FRAMES
    ids = [f"{number:064x}" for number in range(items)]
    owner = np.sort(random.integers(0, int(items * 0.8), FACES))
    rank = np.arange(FACES) - np.searchsorted(owner, owner)
    per_picture = np.bincount(owner, minlength=items)
    frame = np.arange(FRAMES) // VIDEOS  # the frames come first, so that they have faces
    video = [f"clips/{number % VIDEOS:02}.mp4" for number in range(FRAMES)]
    still = [None] * PICTURES
    images = filled(
        "images",
        items,
        image_id=ids,
        file_name=[*video, NAME, *(f"photos/{number:06}.jpg" for number in range(PICTURES - 1))],
        outcome=np.where(per_picture > 0, "labelled", "no_face").tolist(),
        annotations=per_picture,
        video_id=[*video, *still],
        frame_index=[*frame.tolist(), *still],
        pts_ms=[*(frame * 40.0).tolist(), *still],
    )
    confidence = random.beta(5, 2, FACES).astype(np.float32)
    side = np.exp(random.normal(4.3, 0.7, FACES))
    names = [f"{ids[at]}-{own}" for at, own in zip(owner, rank, strict=True)]
    annotations = filled(
        "annotations",
        FACES,
        annotation_id=names,
        image_id=[ids[at] for at in owner],
        rank=rank,
        origin=["model"] * FACES,
        bbox_w=side,
        bbox_h=side * 1.2,
        label=random.choice(LABELS, FACES, p=(0.05, 0.02, 0.03, 0.3, 0.08, 0.07, 0.45)).tolist(),
        confidence=confidence,
        brightness=random.beta(6, 6, FACES),
        contrast=random.beta(6, 20, FACES),
        sharpness=np.exp(random.normal(6, 1.2, FACES)),
        yaw=random.normal(0, 25, FACES),
        pitch=random.normal(0, 12, FACES),
        roll=random.normal(0, 8, FACES),
    )
    least = np.argsort(confidence)[:30]
    crop = cv2.imencode(".jpg", random.integers(0, 255, (64, 64, 3), np.uint8))[1].tobytes()
    crops = filled(CROPS, len(least), annotation_id=[names[at] for at in least], crop=[crop] * len(least))
    lost = failures(*[("truncated", NAME)] * 30, *[("empty", f"{number}.jpg") for number in range(LOST - 30)])
    changes = filled("changes", 500, kind=["annotation"] * 500, rule=["bbox.clipped"] * 500)
    shards: list[dict[str, pa.Table]] = [
        {"images": images, "annotations": annotations, "failures": lost, "changes": changes, CROPS: crops}
    ]
    (folder / "report").mkdir(parents=True)
    (folder / "report" / "evaluation.json").write_text(json.dumps(EVALUATION))
    return committed(folder, *shards)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser. Without one the tests are skipped; in CI, where it is installed, they fail."""
    path = shutil.which("chromium")
    if path is None:
        reason = "a program is missing: chromium (apt-get install chromium fonts-dejavu-core)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with extra("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The page of the large data set; the data set."""
    dataset = large(tmp_path_factory.mktemp("large") / "set")
    started = time.perf_counter()
    steps = {
        "decode": 300.0,
        "detect": 410.0,
        "align": 20.0,
        "infer": 350.0,
        "clean": 9.0,
        "validate": 31.0,
        "write": 8.0,
    }
    written(dataset, steps=steps)
    return SimpleNamespace(
        dataset=dataset, path=dataset.path / "report" / "index.html", seconds=time.perf_counter() - started
    )


class Visit:
    """An open page, with what went wrong on it and what it asked for."""

    def __init__(self, browser: Any, path: Path, width: int = 1280, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.url = path.as_uri()
        started = time.perf_counter()
        self.page.goto(self.url)
        self.seconds = time.perf_counter() - started

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.fixture(scope="module")
def wide(chromium: Any, report: SimpleNamespace) -> Iterator[Visit]:
    """The page, open on a wide screen."""
    with Visit(chromium, report.path) as visit:
        yield visit


def test_it_is_small_and_opens(
    wide: Visit, report: SimpleNamespace, record_property: Callable[[str, object], None]
) -> None:
    """100,000 faces make a page under 3 MB, which opens without an error and asks for nothing but itself."""
    assert report.path.stat().st_size < 3_000_000
    record_property("seconds to write", report.seconds)
    record_property("seconds to open", wide.seconds)
    assert wide.page.title() == "set – labelstream report"
    assert (wide.wrong, wide.asked) == ([], [wide.url])
    loaded = wide.page.evaluate("performance.getEntriesByType('resource').map((each) => each.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_its_numbers_are_the_tables_own(wide: Visit, report: SimpleNamespace) -> None:
    """The numbers at the top and in the tables of the page are those of the data set."""
    dataset = report.dataset
    labelled = dataset.scan("images").filter(pl.col("outcome") == "labelled").select(pl.len()).collect().item()
    counts = dataset.scan("annotations").group_by("label").agg(pl.len(), pl.col("confidence").mean()).collect()
    top = wide.page.locator(".headlines dd strong").all_inner_texts()
    assert top == [
        f"{PICTURES + FRAMES + LOST:,}",
        "100,000",
        f"{labelled / (PICTURES + FRAMES):.0%}".replace("%", "\xa0%"),
        "40",
    ]
    wide.page.evaluate(OPEN)
    for name, faces, _ in counts.iter_rows():
        row = wide.page.get_by_role("region", name="Faces by label").get_by_role("row", name=name)
        assert row.get_by_role("cell").first.inner_text() == f"{faces:,}"
    assert "14 videos." in wide.page.locator("#videos .says").inner_text()
    assert wide.page.locator("#videos figure").count() == 12
    assert wide.page.locator("#look img").count() >= 24
    shown = "() => [...document.images].every((each) => each.complete && each.naturalWidth > 0)"
    wide.page.wait_for_function(shown, timeout=5000)


def test_its_headings_and_landmarks_are_in_order(wide: Visit) -> None:
    """A screen reader finds one banner, one main part, its sections, and names for all charts and pictures."""
    page = wide.page
    page.reload()  # so that nothing has the focus
    assert page.locator("html").get_attribute("lang") == "en"
    for role in ("banner", "main", "navigation", "contentinfo"):
        assert page.get_by_role(role).count() == 1
    assert page.get_by_role("heading", level=1).all_inner_texts() == ["set"]
    titles = page.get_by_role("heading", level=2).all_inner_texts()
    assert titles == page.get_by_role("navigation").get_by_role("link").all_inner_texts()
    assert titles[0] == "Coverage and losses" and "Evaluation" in titles
    unnamed = "els => els.filter((el) => !(el.getAttribute('aria-label') || el.alt)).length"
    assert page.locator("svg, img").evaluate_all(unnamed) == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"


@pytest.mark.parametrize("width", [1280, 360, 320])
def test_it_fits_the_screen(width: int, chromium: Any, report: SimpleNamespace) -> None:
    """All charts show shapes with a size and a colour and whole texts; no open table makes the page scroll sideways."""
    with Visit(chromium, report.path, width) as visit:
        charts = visit.page.evaluate(CHARTS)
        assert len(charts) == visit.page.locator("figure").count() >= 24
        for name, across, high, shapes, outside in charts:
            assert across > 200 and high > 60 and shapes > 0, name
            assert outside == [], name
        visit.page.evaluate(OPEN)
        assert visit.page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read(scheme: str, chromium: Any, report: SimpleNamespace) -> None:
    """Every text has a contrast of at least 4.5 to what is behind it, in light and in dark."""
    with Visit(chromium, report.path, color_scheme=scheme) as visit:
        visit.page.evaluate(OPEN)
        seen = visit.page.evaluate(CONTRASTS)
        assert len(seen) > 10
        assert {pair: found for pair, found in seen.items() if found[0] < 4.5} == {}


def test_it_needs_no_script(chromium: Any, report: SimpleNamespace) -> None:
    """With JavaScript off the page says the same."""
    with Visit(chromium, report.path) as on, Visit(chromium, report.path, java_script_enabled=False) as off:
        assert off.page.locator("body").inner_text() == on.page.locator("body").inner_text()


def test_hostile_names_are_shown_as_text(wide: Visit) -> None:
    """A name that is HTML stands there as it is, runs nothing, and its hidden marks are spelt out."""
    names = wide.page.get_by_role("region", name="Failures by error").locator("bdi").filter(has_text="onerror")
    assert names.all_inner_texts() == [NAME.replace("\u202e", "\\u202e")] * 2
    assert wide.page.locator("img[src='x'], script").count() == 0
    assert wide.wrong == []


def test_the_policy_forbids_what_a_defect_would_let_in(chromium: Any, report: SimpleNamespace, tmp_path: Path) -> None:
    """Were a script, a picture from elsewhere or a style to get into the page, none of them would act."""
    page = report.path.read_text(encoding="utf-8")
    added = "<script>document.title = 'run'</script><img src='http://127.0.0.1:9/x'><p id=p style='color: red'>x</p>"
    (tmp_path / "evil.html").write_text(page.replace("<main", added + "<main", 1), encoding="utf-8")
    with Visit(chromium, tmp_path / "evil.html") as visit:
        assert visit.page.title() == "set – labelstream report"
        assert visit.page.locator("#p").evaluate("each => getComputedStyle(each).color") != "rgb(255, 0, 0)"
        assert len(visit.wrong) == 3 and all("Content Security Policy" in each for each in visit.wrong)
