"""Recipes: what a file says counts as if it stood on the command line, and the command line wins."""

from pathlib import Path

import pytest

from pipelines import annotate, options
from pipelines.dataset import Dataset
from pipelines.recipe import effective, with_recipe
from schemas.errors import UsageError
from tests.pipelines.conftest import add_picture, run


def read(recipe: Path, *argv: str) -> tuple[dict[str, object], list[str]]:
    """Return the options that annotate would see, and Beam's."""
    parser = annotate.parser()
    mine, beams = options.read(parser, with_recipe(parser, [f"--recipe={recipe}", *argv]))
    return vars(mine), beams


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text('input = ["a b", "c"]\nfps = "1/3"\nmin_face = 40\ncrops = true\n[beam]\ndirect_num_workers = 1\n')
    return path


def test_a_recipe_holds_any_options(recipe: Path) -> None:
    """Lists, numbers, flags, and Beam's own options; dashes and underscores alike."""
    mine, beams = read(recipe)
    assert mine["input"] == ["a b", "c"]
    assert str(mine["fps"]) == "1/3" and mine["min_face"] == 40 and mine["crops"] is True
    assert beams == ["--direct_num_workers=1"]


def test_the_command_line_wins(recipe: Path) -> None:
    """Also over a list, over Beam's options, and over an option that excludes the one given."""
    mine, beams = read(recipe, "--input", "d", "--min-face=7", "--keyframes", "--direct_num_workers=2")
    assert mine["input"] == ["d"] and mine["min_face"] == 7
    assert mine["keyframes"] is True and mine["fps"] is None
    assert beams == ["--direct_num_workers=2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fsp = 5", "did you mean fps"),
        ("crops = 1", "expected true or false"),
        ("min-face = []", "expected a text or a number"),
        ("min-face = 'many'", "expected a whole number"),
        ("dry-run = true", "no option 'dry-run'"),
        ("recipe = 'other.toml'", "no option 'recipe'"),
        ("beam = 3", "expected a table"),
        ("= 5", "in TOML"),
    ],
)
def test_a_wrong_recipe_is_told(text: str, said: str, tmp_path: Path) -> None:
    """Whatever is wrong, the message names it."""
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        read(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "missing.toml")


def test_an_effective_recipe_repeats_the_run(recipe: Path, tmp_path: Path) -> None:
    """What is kept says the same options again, and keeps saying them."""
    parser = annotate.parser()
    first = options.read(parser, with_recipe(parser, [f"--recipe={recipe}", "--tta=flip"]))
    kept = tmp_path / "kept.toml"
    kept.write_bytes(effective(parser, *first))
    mine, beams = read(kept)
    assert mine == vars(first[0]) | {"recipe": str(kept)}
    assert beams == first[1]


def test_a_run_keeps_its_recipe_and_goes_on_behind_its_limit(tmp_path: Path) -> None:
    """Two runs with a limit of three do six of seven pictures; the kept recipe does the last."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(7):
        add_picture(folder, f"{number}.jpg", left=20 + 30 * number)
    for done in (3, 6):
        assert run(out, folder, options=["--limit", "3", "--no-export"]) == 0
        assert Dataset(out).scan("images").collect().height == done
    assert run(out, options=["--recipe", str(out / "report" / "recipe.toml"), "--limit", "9"]) == 0
    assert Dataset(out).scan("images").collect().height == 7


def test_a_dry_run_writes_nothing_and_tells_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also over a data set that is there: what is committed is not counted again."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for number in range(3):
        add_picture(folder, f"{number}.jpg", left=20 + 30 * number)
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    assert run(out, folder, options=["--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "to do: 4 pictures and 0 frames" in said and "missing: 1 files cannot be opened" in said
    assert "time: about" in said and not out.exists()
    assert run(out, folder) == 0
    before = sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*"))
    assert run(out, folder, options=["--dry-run"]) == 0
    assert "to do: 0 pictures" in capsys.readouterr().out
    assert sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*")) == before
