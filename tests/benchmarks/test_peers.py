"""The comparison with other tools measures what it says, and goes on without a tool that is not there."""

import re
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import cv2
import pytest

from pipelines.samples import scenes
from tests.benchmarks import chart, inputs, peers
from tests.benchmarks.chart import Bar
from tests.benchmarks.peers import Contestant, LeftOut, Peer, Way


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """The built-in samples with one, one, two and five faces."""
    made = []
    for scene in scenes():
        if scene.faces:
            made.append(tmp_path / Path(scene.name).with_suffix(".jpg"))
            cv2.imwrite(str(made[-1]), scene.rgb[:, :, ::-1])
    return made


def of_this_environment(key: str, way: Way) -> Peer:
    """Return a contestant, to be run by this Python."""
    (peer,) = (each for each in peers.contestants() if each.key == key)
    return Peer(peer.key, peer.name, peer.loader, None, way, peer.settings, peer.does)


def test_a_worker_does_its_turns_and_a_broken_one_is_told(files: list[Path], tmp_path: Path) -> None:
    """Two processes share the files; the first turn does not count; one that cannot start leaves the others alone."""
    good = of_this_environment("opencv-640", Way(processes=2, library_threads=1))
    bad = Peer("nobody", "nobody", "nobody", None, Way())
    measured, left_out = peers.compete([good, bad], files, rounds=2, environments=tmp_path)
    assert (measured.pictures, measured.faces) == (4, 9)
    assert len(measured.rates) == len(measured.cpu_ms) == 2
    assert len(measured.each_ms) == 2 * 4
    assert min(measured.each_ms) > 0 and 20 < measured.peak_mb < 2000
    assert measured.versions["opencv-python-headless"] == version("opencv-python-headless")
    assert not left_out.measured and "KeyError: 'nobody'" in left_out.reason
    assert left_out.row()[1] == "not measured" and len(left_out.row()) == len(measured.row()) == len(peers.HEADER)


def test_the_pipeline_itself_does_turns(files: list[Path], tmp_path: Path) -> None:
    """Each turn labels all files anew, though it is the same process."""
    (done,) = peers.compete([of_this_environment("ours", Way())], files, rounds=1, environments=tmp_path)
    assert done.measured, done.reason
    assert (done.pictures, done.faces, done.each_ms) == (4, 9, [])


def test_a_process_that_dies_in_a_turn_is_told(files: list[Path], tmp_path: Path) -> None:
    """The reason is the last line that it wrote."""
    peer = of_this_environment("opencv-640", Way())
    (done,) = peers.compete([peer], [*files, tmp_path / "missing.jpg"], rounds=1, environments=tmp_path)
    assert not done.measured and "ended with 1" in done.reason and "shape" in done.reason


def test_a_tool_that_cannot_be_installed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pip's reason is told; an environment with the same pins is taken as it is, without asking pip."""
    monkeypatch.setattr(peers, "HERE", tmp_path)
    (tmp_path / "tool.txt").write_text("--no-index\nno-such-tool==1\n")
    with pytest.raises(LeftOut, match="cannot be installed: ERROR: No matching distribution found for no-such-tool"):
        peers.python_of("tool", tmp_path / "envs")
    assert (tmp_path / "envs" / ".gitignore").read_text() == "*\n"
    (tmp_path / "envs" / "tool" / "installed.txt").write_text((tmp_path / "tool.txt").read_text())
    assert peers.python_of("tool", tmp_path / "envs").is_relative_to(tmp_path / "envs" / "tool")


def test_ratios_are_those_of_the_medians() -> None:
    """By rounds and by the processor's time too; what was not measured has none."""
    one = Contestant(Peer("a", "a", "", None, Way()), rates=[20.0, 60.0, 40.0], cpu_ms=[10.0, 10.0, 10.0])
    other = Contestant(Peer("b", "b", "", None, Way()), rates=[10.0, 10.0, 10.0], cpu_ms=[70.0, 50.0, 60.0])
    assert peers.ratio(one, other, 6.0) == ("a / b", "4.00", "4.00 (2.00-6.00)", "6.00", ">= 6")
    other.reason = "gone"
    assert peers.ratio(one, other)[1] == "not measured"


def test_pins_are_exact_and_name_no_registry() -> None:
    """Each line of each file is `name==version`, maybe with a condition or a comment."""
    pins = [line for path in peers.HERE.glob("*.txt") for line in path.read_text().splitlines() if line[:1] != "#"]
    assert len(pins) > 50
    assert [pin for pin in pins if not re.match(r"[a-z0-9-]+==[0-9.]+(\s+#.*|; sys_platform.*)?$", pin)] == []
    assert {peer.environment for peer in peers.contestants()} - {None} == {p.stem for p in peers.HERE.glob("*.txt")}


def test_given_pictures_are_whole_and_distinct(files: list[Path], tmp_path: Path) -> None:
    """Copies, broken pictures and other files are left out; of too many some are taken evenly."""
    (tmp_path / "copy.jpg").write_bytes(files[0].read_bytes())
    (tmp_path / "half.jpg").write_bytes(files[0].read_bytes()[:5000])
    (tmp_path / "notes.txt").write_text("no picture")
    told, taken = inputs.given(tmp_path, 10)
    assert {path.read_bytes() for path in taken} == {path.read_bytes() for path in files}
    assert told.startswith("4 of 6 ")
    assert inputs.given(tmp_path, 2)[1] == [taken[0], taken[2]]


def test_a_chart_is_text_and_bars_in_proportion() -> None:
    """Names are escaped, figures stand beside the bars, and ours has the colour that is looked at first."""
    drawn = ElementTree.fromstring(
        chart.bars("a < b", [Bar("one & only", 80.0, True), Bar("other", 5.25, False)], ["so"])
    )
    name = "{http://www.w3.org/2000/svg}"
    assert [text.text for text in drawn.iter(name + "text")] == ["a < b", "one & only", "80", "other", "5.2", "so"]
    first, second = drawn.iter(name + "rect")
    assert float(second.attrib["width"]) / float(first.attrib["width"]) == pytest.approx(5.25 / 80, abs=1e-3)
    assert (first.attrib["fill"], second.attrib["fill"]) == (chart.OURS, chart.OTHERS)
