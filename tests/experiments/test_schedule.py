"""Which job may begin, and how many steps there are: pure decisions, no process is started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gradprom.experiments.schedule import Job, Schedule, Steps, missing, parts_of
from gradprom.training.config import Config, RecognizerConfig, StageConfig, TrainingConfig


def config_of(folder: Path | None, strategy: str = "gradprom", **changes: object) -> Config:
    training = TrainingConfig(
        warmup=StageConfig(steps=100),
        pretrain=StageConfig(steps=10),
        cascade=StageConfig(steps=1),
        stages=None if folder is None else str(folder),
        view="whole",
    )
    config = Config(
        strategy=strategy,  # type: ignore[arg-type]
        diagnosis=RecognizerConfig("resnet18"),
        segmentation=RecognizerConfig("resnet18"),
        training=training,
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def job_of(name: str, config: Config, after: tuple[str, ...] = ()) -> Job:
    return Job(name, Path(name), config, Path("log"), Path("cache"), after=after)


def make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def make_all(config: Config) -> None:
    for path in missing(parts_of(config)):
        make(path)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("enhancer_only", [("warmup", 100, True), ("cascade", 1, False)]),
        (
            "recognizer_only",
            [("pretrain_diagnosis", 10, False), ("pretrain_segmentation", 10, False), ("cascade", 1, False)],
        ),
        (
            "joint",
            [
                ("warmup", 100, True),
                ("pretrain_diagnosis", 10, True),
                ("pretrain_segmentation", 10, True),
                ("cascade", 1, False),
            ],
        ),
    ],
)
def test_parts(tmp_path: Path, strategy: str, expected: list[tuple[str, int, bool]]) -> None:
    parts = parts_of(config_of(tmp_path, strategy))
    assert [(part.stage, part.steps, part.shared is not None) for part in parts] == expected
    assert {part.shared is None for part in parts_of(config_of(None, strategy))} == {True}


def test_stages_without_steps_are_no_parts(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    config.training.warmup = StageConfig(steps=0)
    assert [part.stage for part in parts_of(config)] == ["pretrain_diagnosis", "pretrain_segmentation", "cascade"]


def test_a_stage_is_waited_for_and_others_overtake(tmp_path: Path) -> None:
    first, same = config_of(tmp_path), config_of(tmp_path, "joint")
    other = config_of(tmp_path, degradation="gaussian 0.3", diagnosis=None, segmentation=RecognizerConfig("resnet50"))
    schedule = Schedule([job_of("first", first), job_of("same", same), job_of("other", other)])
    begun = schedule.next()
    assert begun is not None
    assert begun.name == "first"
    begun = schedule.next()
    assert begun is not None
    assert begun.name == "other"
    assert schedule.next() is None
    schedule.finish("other")
    assert schedule.next() is None  # first is still at work
    make_all(first)  # its shared stages are there now, though it goes on
    begun = schedule.next()
    assert begun is not None
    assert begun.name == "same"
    schedule.finish("first")
    schedule.finish("same")
    assert schedule.next() is None


def test_what_shares_only_one_stage_waits_too(tmp_path: Path) -> None:
    first = config_of(tmp_path)
    same_recognizer = config_of(tmp_path, degradation="gaussian 0.3")
    schedule = Schedule([job_of("first", first), job_of("second", same_recognizer)])
    assert schedule.next() is not None
    assert schedule.next() is None
    for part in parts_of(first):
        if part.shared is not None and part.stage.startswith("pretrain"):
            make(part.shared)
    assert schedule.next() is not None  # the warm-up that is still being made is another


def test_after_a_failure_the_next_one_makes_the_stage(tmp_path: Path) -> None:
    schedule = Schedule([job_of("first", config_of(tmp_path)), job_of("second", config_of(tmp_path, "joint"))])
    assert schedule.next() is not None
    assert schedule.next() is None
    assert schedule.fail("first") == []
    begun = schedule.next()
    assert begun is not None
    assert begun.name == "second"


def test_a_reader_comes_first(tmp_path: Path) -> None:
    reader = config_of(tmp_path, "recognizer_only", degradation="none")
    jobs = [
        job_of("reader", reader),
        job_of("a", config_of(tmp_path), after=("reader",)),
        job_of("b", config_of(tmp_path, "enhancer_only", degradation="none"), after=("done before",)),
    ]
    schedule = Schedule(jobs)
    begun = [schedule.next(), schedule.next(), schedule.next()]
    assert [job and job.name for job in begun] == ["reader", "b", None]
    schedule.finish("reader")
    begun_later = schedule.next()
    assert begun_later is not None
    assert begun_later.name == "a"


def test_without_its_reader_a_run_is_not_begun(tmp_path: Path) -> None:
    jobs = [
        job_of("reader", config_of(tmp_path, "recognizer_only")),
        job_of("a", config_of(tmp_path), after=("reader",)),
        job_of("b", config_of(tmp_path, "frozen"), after=("reader",)),
    ]
    schedule = Schedule(jobs)
    assert schedule.next() is not None
    assert [job.name for job in schedule.fail("reader")] == ["a", "b"]
    assert schedule.next() is None


def test_steps_are_counted_once(tmp_path: Path) -> None:
    jobs = [
        job_of("alone", config_of(tmp_path, "enhancer_only")),
        job_of("joint", config_of(tmp_path, "joint")),
        job_of("gradprom", config_of(tmp_path, "gradprom")),
        job_of("degraded", config_of(tmp_path, "recognizer_only")),
    ]
    # one warm-up, two pretrainings, four cascades, and two pretrainings that are not shared
    steps = Steps(jobs)
    assert (steps.total, steps.done) == (100 + 2 * 10 + 4 + 2 * 10, 0)
    assert [steps.of(job.name) for job in jobs] == [101, 121, 121, 21]

    assert steps.reached("alone", "warmup", 40) == 40
    assert steps.done == 40
    assert steps.reached("joint", "pretrain_diagnosis", 3) == 103  # it found the warm-up done
    assert steps.done == 103
    assert steps.reached("gradprom", "pretrain_diagnosis", 2) == 102
    assert steps.done == 103
    steps.finished("alone")
    assert steps.done == 104
    steps.given_up("degraded")
    assert steps.total == 123
    for name in ("joint", "gradprom"):
        steps.finished(name)
    assert steps.done == steps.total == 123


def test_what_was_done_before_is_not_counted(tmp_path: Path) -> None:
    config = config_of(tmp_path, "joint")
    warmup = parts_of(config)[0].shared
    assert warmup is not None
    make(warmup)
    jobs = [
        job_of("a", config),
        job_of("b", config_of(tmp_path, "frozen")),
        job_of("c", config_of(tmp_path, "gradprom")),
    ]
    steps = Steps(jobs, trained={"c"})
    assert (steps.total, steps.done) == (2 * 10 + 2, 0)
    assert steps.reached("a", "cascade", 1) == 121
    assert steps.done == 21


def test_what_a_failed_run_was_to_share_is_still_to_be_done(tmp_path: Path) -> None:
    jobs = [job_of("a", config_of(tmp_path, "joint")), job_of("b", config_of(tmp_path, "frozen"))]
    steps = Steps(jobs)
    assert steps.reached("a", "warmup", 50) == 50
    steps.given_up("a")
    assert (steps.total, steps.done) == (100 + 2 * 10 + 1, 50)
    steps.given_up("b")
    assert (steps.total, steps.done) == (50, 50)
