"""The documentation: what it shows runs or is understood, and the site builds without a warning."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import gradprom
from gradprom import cli
from gradprom.experiments.plan import expand, read_plan

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (*DOCS.rglob("*.md"), ROOT / "README.md"))
WIDTH, HEIGHT = 100, 40  # of a screen that a command's help must fit
NEEDED = ("sphinx", "furo", "myst_parser", "monai")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind its fence, and in it."""

    info: tuple[str, ...]
    text: str


def blocks_of(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^( *)```([^\n`]*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [Block(tuple(info.split()), inner) for _, info, inner in found]


def commands_of(text: str) -> Iterator[list[str]]:
    """The words of every gradprom command among lines of shell, whatever starts it."""
    text = re.sub(r"\\\n\s*", "", text)
    text = text.replace("$SLURM_ARRAY_TASK_ID", "0").replace("$(which gradprom)", "gradprom")
    for line in text.splitlines():
        if not re.match(r"\s*(srun |torchrun |.*\bgradprom\b)", line) or "gradprom" not in line.split("#")[0]:
            continue
        words = shlex.split(line, comments=True)
        if words[:1] in (["gradprom"], ["srun"], ["torchrun"]) and "gradprom" in words:
            yield words[words.index("gradprom") + 1 :]


def write_files(page: str, folder: Path) -> None:
    """What a page has its reader save: the YAML blocks that say which file they are."""
    for block in blocks_of(page):
        named = re.match(r"# file: (\S+)\n", block.text)
        if named:
            (folder / named[1]).write_text(block.text, encoding="utf-8")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader of the repository would try the commands."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def understand(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the real parsers read a command, and do nothing."""
    done: list[str] = []
    if words[:1] == ["train"] and not {"--help", "--help-all", "--print_config"} & set(words):
        for name in ("train", "resume"):
            monkeypatch.setattr(f"gradprom.training.run.{name}", lambda *_, **__: done.append("") or Path("run"))
        assert cli.main(words) == 0
        assert done
        return
    options, code = None, 0
    try:
        options = cli._parser().parse_args(words)
    except SystemExit as ended:  # of --help, of --version, or of a mistake
        code = int(ended.code or 0)
    assert code == 0, words
    if options is not None and words[:1] == ["experiment"]:
        for plan in map(read_plan, options.plans):
            expand(plan, options.scale, options.data)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_understood(page: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(page, desk)
    for block in blocks_of(page):
        for words in commands_of(block.text):
            understand(words, monkeypatch)


def test_commands_are_found() -> None:
    text = 'srun gradprom train \\\n    -o "runs/a b"  # why\npip install gradprom\n  # gradprom no\ngradprom demo\n'
    assert list(commands_of(text)) == [["train", "-o", "runs/a b"], ["demo"]]
    assert sum(len(list(commands_of(block.text))) for page in PAGES for block in blocks_of(page)) > 40


@functools.cache
def known_options() -> dict[str, set[str]]:
    """By the words of a command, the options it has."""
    from gradprom.training._parse import add_config_arguments, make_parser

    found = {name.removeprefix("gradprom"): set(parser._option_string_actions) for name, parser in parsers()}
    full = make_parser(prog="gradprom train")
    add_config_arguments(full)
    found[" train"] |= set(full._option_string_actions)
    return {name.strip(): options for name, options in found.items()}


def parsers(
    parser: argparse.ArgumentParser | None = None, name: str = "gradprom"
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    parser = parser or cli._parser()
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, command in action.choices.items():
                yield from parsers(command, f"{name} {word}")


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_sentences_exist(page: str) -> None:
    prose = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    known = known_options()
    for command in re.findall(r"`gradprom ([^`]+)`", prose):
        words = shlex.split(command)
        name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        if words[0].isupper() or words[0].startswith("-"):
            name = ""
        assert name in known, command
        for option in (word.partition("=")[0] for word in words if word.startswith("-")):
            assert option in known[name], command


@pytest.mark.parametrize("page", PAGES)
def test_every_yaml_block_is_understood(page: str, desk: Path) -> None:
    for number, block in enumerate(block for block in blocks_of(page) if block.info[:1] == ("yaml",)):
        path = desk / f"{number}.yaml"
        path.write_text(block.text, encoding="utf-8")
        if "axes" in yaml.safe_load(block.text):
            assert expand(read_plan(path))
        else:
            gradprom.parse(path)


@pytest.fixture
def small_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most three steps in each stage of training, and two test slices of the embedded brain."""
    from gradprom.datasets import brain_mr
    from gradprom.training import run

    build, load = run.build_stages, brain_mr.load_brain_mr

    def few(*args: Any, **options: Any) -> list[Any]:
        stages = build(*args, **options)
        for stage in stages:
            stage.config = replace(stage.config, steps=min(stage.config.steps, 3))
        return stages

    def two(**options: Any) -> Any:
        whole = load(**options)
        return replace(whole, test=whole.test[:2])

    monkeypatch.setattr(run, "build_stages", few)
    monkeypatch.setattr(brain_mr, "load_brain_mr", two)


@pytest.mark.usefixtures("small_scale")
@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_what_a_page_shows_runs(page: str, desk: Path) -> None:
    """The tutorial's commands, and every page's Python (blocks marked no-run are only compiled), from top to bottom."""
    write_files(page, desk)
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks_of(page):
        if block.info[:1] == ("python",):
            code = compile(block.text, page, "exec")
            if "no-run" not in block.info:
                exec(code, names)
        elif page == "docs/tutorial.md" and block.info == ("sh",):
            for words in commands_of(block.text):
                if words == ["--version"]:
                    continue
                assert cli.main(words) == 0, words
    if page == "docs/tutorial.md":
        assert {path.name for path in desk.iterdir()} >= {"demo", "runs", "enhanced", "brain.html"}
        assert list((desk / "enhanced").glob("*.png"))


def test_the_readme_s_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text):
        assert (ROOT / link).exists(), link


def test_the_readme_s_python_compiles() -> None:
    for block in blocks_of("README.md"):
        if block.info[:1] == ("python",):
            compile(block.text, "README.md", "exec")


@pytest.mark.parametrize(("name", "parser"), list(parsers()), ids=[name for name, _ in parsers()])
def test_help_fits_a_screen_and_shows_an_example(
    name: str, parser: argparse.ArgumentParser, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    text = parser.format_help()
    assert text.count("\n") <= HEIGHT
    assert max(map(len, text.splitlines())) <= WIDTH
    examples = text.partition("\nexample")[2]
    assert f"  {name}" in examples
    for line in re.findall(r"^  (gradprom .*)$", examples, re.MULTILINE):
        for words in commands_of(re.sub(r" {2,}.*", "", line)):  # less what is said beside it
            understand(words, monkeypatch)


def test_the_short_help_of_train_names_options_that_exist() -> None:
    short = dict(parsers())["gradprom train"]
    own = {"-o", "--output", "--resume", "--overwrite", "-h", "--help", "--help-all", "--print_config"}
    from gradprom.training._parse import add_config_arguments, make_parser

    full = make_parser(prog="gradprom train")
    add_config_arguments(full)
    for option in set(short._option_string_actions) - own:
        # a group that is null has its options once it is asked for
        words = [option, {"--diagnosis.encoder": "resnet18", "--segmentation.encoder": "resnet18"}.get(option, "")]
        assert option in full._option_string_actions or full.parse_args(words), option


def test_every_public_module_is_in_the_reference() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    shown = {name for names in re.findall(r"<!-- made: api ([\w. ]+) -->", text) for name in names.split()}
    for part in pkgutil.iter_modules(gradprom.__path__, "gradprom."):
        if not part.name.removeprefix("gradprom.").startswith("_") and part.name != "gradprom.cli":
            named = any(name == part.name or name.startswith(f"{part.name}.") for name in shown)
            assert named, f"{part.name}: name it in a page of docs/reference"
    for name in shown:
        assert importlib.util.find_spec(name) is not None, name


@pytest.mark.skipif(bool(MISSING), reason=f"the site is not built without {', '.join(MISSING)}")
def test_the_site_builds_without_a_warning_and_asks_nobody_else(tmp_path: Path) -> None:
    site = tmp_path / "site"
    words = ["-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going", "-d", str(tmp_path / "trees")]
    done = subprocess.run([sys.executable, *words, str(DOCS), str(site)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = sorted(site.rglob("*.html"))
    assert {page.relative_to(site).with_suffix(".md").as_posix() for page in pages} >= {
        page.removeprefix("docs/") for page in PAGES if page != "README.md"
    }
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"([^\"]+)\"", text)
        loaded += re.findall(r"<link\b[^>]*\bhref=\"([^\"]+)\"", text)
        assert not [address for address in loaded if re.match(r"(?:https?:)?//", address)], page
    assert "<math" in (site / "method.html").read_text(encoding="utf-8")
    assert "gradprom evaluate" in (site / "reference" / "commands.html").read_text(encoding="utf-8")
