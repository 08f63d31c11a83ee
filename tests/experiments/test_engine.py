"""The engine with work that only pretends, and the real work on small runs."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

from gradprom.errors import UserError
from gradprom.experiments import _execute
from gradprom.experiments.engine import count_steps, jobs_of, left_of, run_experiment
from gradprom.experiments.plan import Grid, Plan, expand
from gradprom.experiments.records import is_done, position, summarise
from gradprom.experiments.schedule import Job, parts_of
from gradprom.experiments.worker import do

# a module of its own, for workers import what they do by its name
PRETENDED = '''
import json
import os
import signal
import time
from pathlib import Path

from gradprom.errors import UserError
from gradprom.experiments.records import note_measured
from gradprom.experiments.schedule import missing, parts_of


def finish(job):
    """Leave what a run leaves, and make the shared stages that are missing, which nobody else may be at."""
    place = job.folder.parents[1]
    for path in sorted(missing(parts_of(job.config))):
        path.parent.mkdir(parents=True, exist_ok=True)
        claim = path.with_suffix(".claim")
        claim.open("x").close()
        time.sleep(0.05)
        path.write_text(path.name)
        claim.unlink()
        with (place / "made.txt").open("a") as file:
            file.write(path.name + "\\n")
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "run.json").write_text(json.dumps({"finished": True}))
    for folder in (job.folder, *(job.folder / f"on-{name}" for name in job.test_on)):
        folder.mkdir(exist_ok=True)
        (folder / "evaluation.csv").write_text("id,psnr\\n")
        (folder / "evaluation.json").write_text(json.dumps({"summary": {"enhanced": {"psnr": 30.0}}}))
    note_measured(job)


def succeed(job, tell):
    with (job.folder.parents[1] / "begun.txt").open("a") as file:
        file.write(f"{job.name} {os.getpid()} {os.environ['OMP_NUM_THREADS']}\\n")
    print("words of a library")
    tell("training")
    finish(job)


def meet(job, tell):
    """Go on only when another run is at work too."""
    place = job.folder.parents[1]
    (place / f"{os.getpid()}.here").touch()
    until = time.monotonic() + 30
    while len(list(place.glob("*.here"))) < 2:
        if time.monotonic() > until:
            raise RuntimeError("nobody came")
        time.sleep(0.01)
    finish(job)


def by_seed(job, tell):
    """Seed 1 is a mistake in what was given, 2 a fault of the program, 3 dies; unless the place says it is mended."""
    seed = job.config.training.seed % 1000
    if not (job.folder.parents[1] / "mended").exists():
        if seed == 1:
            raise UserError("image.png: is not an image")
        if seed == 2:
            raise ValueError("no such thing")
        if seed == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    succeed(job, tell)


def long(job, tell):
    """Like a training that saves at Ctrl-C."""
    place = job.folder.parents[1]
    (place / "pid").write_text(str(os.getpid()))
    try:
        (place / "begun").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        (place / "saved").touch()
        raise


def deaf(job, tell):
    """Does not care for Ctrl-C."""
    place = job.folder.parents[1]
    (place / "pid").write_text(str(os.getpid()))
    signal.signal(signal.SIGINT, lambda *_: (place / "heard").touch())
    (place / "begun").touch()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        time.sleep(0.01)
'''
SMALL = {
    "dataset": {"name": "brain_mr", "validation_images": 1},
    "enhancer": {"name": "residual_unet", "blocks": 1, "channels": 4},
    "segmentation": {"encoder": "test_resnet"},
    "training": {
        "batch_size": 2,
        "size": 32,
        "precision": "32-true",
        "accelerator": "cpu",
        "warmup": {"steps": 12, "learning_rate": 1e-3},
        "pretrain": {"steps": 4},
        "cascade": {"steps": 3},
        "checkpoint_every": 6,
    },
}


def plan_of(reader: dict[str, object] | None = None, test_on: tuple[str, ...] = (), **axes: tuple[object, ...]) -> Plan:
    return Plan("plan", "A plan", None, SMALL, {}, (Grid(axes),), test_on, reader)


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    folder = tmp_path / "module"
    folder.mkdir()
    (folder / "pretended_work.py").write_text(PRETENDED, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module("pretended_work")
    del sys.modules["pretended_work"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "experiment"


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process is there, and is no mere entry in the system's table."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_runs_are_done_in_order_by_one_process(
    pretended: ModuleType, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(strategy=("enhancer_only", "joint", "gradprom"), seed=(0, 1))
    assert run_experiment([plan], place, work=pretended.succeed) == []
    names = [run.name for run in expand(plan)]
    begun = [line.split() for line in lines(place / "begun.txt")]
    assert [name for name, _, _ in begun] == names
    assert len({pid for _, pid, _ in begun}) == 1
    assert str(os.getpid()) not in begun[0]
    error = capfd.readouterr().err
    assert [line.split(" after ")[0] for line in error.splitlines()] == [
        f"{index}/6 {name}: done" for index, name in enumerate(names, start=1)
    ]
    assert lines(place / "logs" / f"{names[0]}.txt") == ["words of a library"]
    # one warm-up and one pretraining for each seed
    assert len(lines(place / "made.txt")) == len(set(lines(place / "made.txt"))) == 4

    record = yaml.safe_load((place / "experiment.yaml").read_text())
    assert (record["scale"], list(record["runs"])) == ("laptop", names)
    assert record["plans"] == {"plan": {"title": "A plan", "paper": None}}
    assert record["runs"][names[-1]]["strategy"] == "gradprom"
    assert record["versions"]["torch"] == metadata.version("torch")


def test_a_terminal_shows_bars(
    pretended: ModuleType, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # which rich takes for a terminal
    monkeypatch.setenv("COLUMNS", "100")
    plan = plan_of({"training": {"seed": 1}}, strategy=("enhancer_only",), seed=(0, 4))
    other = replace(plan_of(strategy=("enhancer_only",), seed=(6,)), name="other")
    assert len(run_experiment([plan, other], place, work=pretended.by_seed)) == 3
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capfd.readouterr().err)
    assert re.search(r"^runs +\S+ 4/4 ", shown.replace("\r", "\n"), re.MULTILINE)
    # those of the one run that neither failed nor needed the reader that did
    assert re.search(r"^steps +\S+ 15/15 ", shown.replace("\r", "\n"), re.MULTILINE)


def test_nothing_is_done_twice(pretended: ModuleType, place: Path) -> None:
    first, second = plan_of(seed=(0, 1)), replace(plan_of(seed=(1, 2)), name="second")
    assert run_experiment([first], place, work=pretended.succeed) == []
    assert run_experiment([first, second], place, work=pretended.succeed) == []
    assert run_experiment([first, second], place, work=pretended.succeed) == []
    names = [run.name for run in expand(plan_of(seed=(0, 1, 2)))]
    assert [line.split()[0] for line in lines(place / "begun.txt")] == names
    (place / "runs" / names[1] / "evaluation.json").unlink()
    assert run_experiment([first], place, work=pretended.succeed) == []
    assert lines(place / "begun.txt")[-1].startswith(names[1])


def test_several_workers_work_at_a_time(pretended: ModuleType, place: Path) -> None:
    plan = plan_of(strategy=("enhancer_only",), seed=(0, 1))
    assert run_experiment([plan], place, workers=2, work=pretended.meet) == []


def test_shared_stages_are_made_once(pretended: ModuleType, place: Path) -> None:
    plan = plan_of(strategy=("enhancer_only", "joint", "frozen", "gradprom"), weight=(0.1, 1.0), seed=(0, 1))
    assert run_experiment([plan], place, workers=3, work=pretended.succeed) == []
    made = lines(place / "made.txt")
    assert sorted(set(made)) == sorted(made)
    assert len(made) == 4
    begun = {
        seed: {json.loads(path.read_text())["begun_from"] for path in place.glob(f"runs/*-s{seed}-*/measured.json")}
        for seed in (0, 1)
    }
    assert [len(begun[seed] - {None}) for seed in begun] == [1, 1]
    assert begun[0] != begun[1]


def test_the_reader_is_trained_first(pretended: ModuleType, place: Path) -> None:
    plan = plan_of({"segmentation": {"encoder": "resnet18"}}, strategy=("enhancer_only", "gradprom"))
    runs = expand(plan)
    assert runs[0].reader is not None
    assert run_experiment([plan], place, workers=2, work=pretended.succeed) == []
    begun = [line.split()[0] for line in lines(place / "begun.txt")]
    assert begun == [runs[0].reader.name, runs[0].name, runs[1].name]
    assert (place / "readers" / runs[0].reader.name / "run.json").exists()
    # measured by another reader, or by none, is not measured
    assert left_of(jobs_of(runs, place)) == []
    other = expand(plan_of({"segmentation": {"encoder": "resnet34"}}, strategy=("enhancer_only", "gradprom")))
    assert len(left_of(jobs_of(other, place))) == 3
    assert left_of(jobs_of(expand(plan_of(strategy=("enhancer_only",))), place)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failed_run_fails_alone_and_is_tried_again(pretended: ModuleType, place: Path, workers: int) -> None:
    plan = plan_of(strategy=("enhancer_only",), seed=(0, 1, 2, 3, 4))
    names = [run.name for run in expand(plan)]
    failures = {
        failure.name: failure for failure in run_experiment([plan], place, workers=workers, work=pretended.by_seed)
    }
    assert sorted(failures) == sorted(names[1:4])
    assert failures[names[1]].reason == "image.png: is not an image"
    assert failures[names[2]].reason.startswith("ValueError: no such thing (see ")
    assert "its process was killed by SIGKILL" in failures[names[3]].reason
    assert "image.png: is not an image" in failures[names[1]].log.read_text()
    assert "Traceback (most recent call last)" in failures[names[2]].log.read_text()
    assert {line.split()[0] for line in lines(place / "begun.txt")} == {names[0], names[4]}

    (place / "mended").touch()
    assert run_experiment([plan], place, workers=workers, work=pretended.by_seed) == []
    assert sorted(line.split()[0] for line in lines(place / "begun.txt")) == sorted(names)


def test_without_its_reader_a_run_waits_for_another_time(pretended: ModuleType, place: Path) -> None:
    plan = plan_of({"training": {"seed": 1}}, strategy=("enhancer_only",), seed=(0, 4))
    runs = expand(plan)
    failures = run_experiment([plan], place, work=pretended.by_seed)
    assert [failure.reason for failure in failures[1:]] == [f"needs the reader {failures[0].name}, which failed"] * 2
    assert [failure.name for failure in failures[1:]] == [run.name for run in runs]
    assert not (place / "begun.txt").exists()
    (place / "mended").touch()
    assert run_experiment([plan], place, work=pretended.by_seed) == []


def test_ctrl_c_lets_the_runs_save(pretended: ModuleType, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        wait_for((place / "begun").exists)
        os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_experiment([plan_of(seed=(0, 1))], place, work=pretended.long)
    thread.join()
    assert (place / "saved").exists()
    assert not is_alive(int((place / "pid").read_text()))
    assert "interrupted: the runs at work save where they are" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is handler
    assert run_experiment([plan_of(seed=(0, 1))], place, work=pretended.succeed) == []


def test_a_second_ctrl_c_does_not_wait(pretended: ModuleType, place: Path) -> None:
    def interrupt() -> None:
        wait_for((place / "begun").exists)
        os.kill(os.getpid(), signal.SIGINT)
        wait_for((place / "heard").exists)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_experiment([plan_of()], place, work=pretended.deaf)
    thread.join()
    assert not is_alive(int((place / "pid").read_text()))


def test_workers_do_not_outlive_the_engine(pretended: ModuleType, place: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump({"base": SMALL}))
    code = (
        "import pretended_work\n"
        "from gradprom.experiments.engine import run_experiment\n"
        "from gradprom.experiments.plan import read_plan\n"
        "if __name__ == '__main__':\n"
        f"    run_experiment([read_plan({str(plan)!r})], {str(place)!r}, work=pretended_work.deaf)\n"
    )
    script = tmp_path / "module" / "script.py"
    script.write_text(code)
    engine = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    wait_for((place / "begun").exists)
    with pytest.raises(UserError, match="another gradprom experiment is at work there"):
        run_experiment([plan_of()], place, work=pretended.succeed)
    engine.kill()
    engine.wait()
    wait_for(lambda: not is_alive(int((place / "pid").read_text())))
    assert run_experiment([plan_of()], place, work=pretended.succeed) == []


def test_one_experiment_at_a_time(pretended: ModuleType, place: Path) -> None:
    place.mkdir()
    with (place / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"another gradprom experiment is at work there, wait for it"):
            run_experiment([plan_of()], place, work=pretended.succeed)
    assert run_experiment([plan_of()], place, work=pretended.succeed) == []


def test_other_folders_are_left_alone(pretended: ModuleType, place: Path) -> None:
    place.mkdir()
    (place / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"is not an experiment's folder \(it holds thesis\.txt"):
        run_experiment([plan_of()], place, work=pretended.succeed)
    assert [path.name for path in place.iterdir()] == ["thesis.txt"]


def test_images_that_are_not_there_are_missed_before_any_work(
    pretended: ModuleType, place: Path, tmp_path: Path
) -> None:
    plan = plan_of(dataset=("isic2018",))
    with pytest.raises(
        UserError, match=r"dataset isic2018 is needed, and the plan does not say where it is: give --data"
    ):
        run_experiment([plan], place, work=pretended.succeed)
    with pytest.raises(UserError, match=r"dataset isic2018 is needed, and \S+/isic2018 is not there"):
        run_experiment([plan], place, data=tmp_path, work=pretended.succeed)
    with pytest.raises(UserError, match=r"dataset camus is needed"):
        run_experiment([plan_of(test_on=("camus",))], place, work=pretended.succeed)
    assert not place.exists()


def test_leftovers_of_a_kill_are_removed(pretended: ModuleType, place: Path) -> None:
    assert run_experiment([plan_of()], place, work=pretended.succeed) == []
    leftovers = [place / ".partial-a", place / "stages" / ".partial-b.safetensors"]
    for path in leftovers:
        path.touch()
    assert run_experiment([plan_of()], place, work=pretended.succeed) == []
    assert not any(path.exists() for path in leftovers)


def test_threads_are_shared_out(pretended: ModuleType, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(7)), raising=False)
    assert [_execute.threads_for(workers) for workers in (1, 2, 3, 8)] == [7, 3, 2, 1]
    assert run_experiment([plan_of()], place, workers=2, work=pretended.succeed) == []
    assert lines(place / "begun.txt")[0].split()[2] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert _execute.threads_for(2) == 5


def test_how_far_a_run_is(tmp_path: Path) -> None:
    assert position(tmp_path) is None
    log = tmp_path / "metrics.csv"
    log.write_text("stage,step,loss\n")
    assert position(tmp_path) is None
    log.write_text("stage,step,loss\nwarmup,25,0.1\nwarmup,50,0.1\n")
    assert position(tmp_path) == ("warmup", 50)
    with log.open("a") as file:
        file.write("".join(f"pretrain_segmentation,{step},0.1\n" for step in range(1000)))
        file.write("cascade,2")  # a row that is being written
    assert position(tmp_path) == ("pretrain_segmentation", 999)


def test_what_was_measured_is_summed_up(pretended: ModuleType, place: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "camus").mkdir(parents=True)
    plan = plan_of(test_on=("camus",), strategy=("enhancer_only", "gradprom"))
    runs = expand(plan, data=tmp_path / "data")
    assert run_experiment([plan], place, data=tmp_path / "data", work=pretended.succeed) == []
    (place / "runs" / runs[1].name / "evaluation.json").write_text("{")
    (place / "runs" / runs[1].name / "on-camus" / "evaluation.csv").unlink()
    first, second = summarise(place, runs)
    assert (first.run, first.steps, second.steps) == (runs[0], 15, 19)
    assert first.own is not None
    assert first.own.summary == {"enhanced": {"psnr": 30.0}}
    assert first.own.images == place / "runs" / runs[0].name / "evaluation.csv"
    assert list(first.elsewhere) == ["camus"]
    assert (second.own, second.elsewhere) == (None, {})


def test_real_runs_from_a_plan_to_their_measures(place: Path, images: Path) -> None:
    own = {"name": "folder", "root": str(images), "validation_images": 1}
    reader = {"segmentation": {"encoder": "resnet18"}, "training": {"pretrain": {"steps": 2}, "cascade": {"steps": 0}}}
    plan = plan_of(reader, dataset=(own,), strategy=("enhancer_only", "recognizer_only", "gradprom"))
    assert run_experiment([plan], place, work=do) == []
    runs = expand(plan)
    assert left_of(jobs_of(runs, place)) == []
    found = {result.run.config.strategy: result for result in summarise(place, runs)}
    summaries = {strategy: result.own.summary for strategy, result in found.items() if result.own}
    assert list(summaries["enhancer_only"]) == ["input", "non-local means", "enhanced", "clean"]
    assert list(summaries["gradprom"]) == ["enhanced"]
    assert summaries["gradprom"]["enhanced"]["images"] == 2
    assert summaries["gradprom"]["enhanced"]["independent_miou"] is not None
    clean = [summaries[strategy]["clean"]["independent_miou"] for strategy in ("enhancer_only", "recognizer_only")]
    assert clean[0] == clean[1] is not None  # both are read by the same independent reader
    assert summaries["gradprom"]["enhanced"]["miou"] is not None
    assert summaries["enhancer_only"]["enhanced"]["miou"] is None

    # one warm-up and one pretraining, each a file of weights and one of rows
    assert sorted(path.name.split("-")[0] for path in (place / "stages").glob("*.safetensors")) == [
        "pretrain",
        "warmup",
    ]
    folder = found["gradprom"].folder
    stages = [line.split(",")[0] for line in lines(folder / "metrics.csv")[1:]]
    (job,) = [job for job in jobs_of(runs, place) if job.folder == folder]
    assert list(dict.fromkeys(stages)) == [part.stage for part in parts_of(job.config)]
    assert position(folder) == ("cascade", 3)
    assert json.loads((folder / "run.json").read_text())["threads"] == _execute.threads_for(1)


class Killed(BaseException):
    """Leaves on disk what a kill would leave."""


@pytest.fixture
def killed(place: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Job]:
    """Gives a job that was killed after so many steps."""

    def kill(steps: int) -> Job:
        own = {"name": "folder", "root": str(images), "validation_images": 1}
        (job,) = jobs_of(expand(plan_of(dataset=(own,), test_on=("brain_mr",))), place)
        original, done = torch.optim.Adam.step, 0

        def step(self: torch.optim.Adam, *arguments: object) -> object:
            nonlocal done
            if done == steps:
                raise Killed
            done += 1
            return original(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(torch.optim.Adam, "step", step)
            with pytest.raises(Killed):
                do(job, lambda _: None)
        return job

    return kill


def test_a_killed_run_is_gone_on_with_even_in_another_place(
    killed: Callable[[int], Job], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = killed(14)  # in the pretraining
    assert not is_done(job)
    assert count_steps([job]).total == 4 + 3  # its warm-up is there for all
    moved = tmp_path / "moved"
    place.rename(moved)
    job = replace(
        job,
        folder=moved / "runs" / job.name,
        cache=moved / "nlm",
        config=replace(job.config, training=replace(job.config.training, stages=str(moved / "stages"))),
    )
    monkeypatch.setattr("gradprom.training.run.train", lambda *_: pytest.fail("begins anew"))
    told: list[str] = []
    do(job, told.append)
    assert told == ["training", "measuring on brain_mr", "measuring"]
    assert is_done(job)
    assert not place.exists()
    assert len(list((moved / "stages").glob("pretrain*.safetensors"))) == 1
    about = json.loads((job.folder / "on-brain_mr" / "evaluation.json").read_text())
    assert (about["dataset"], list(about["summary"])) == ("brain_mr", ["enhanced"])

    (job.folder / "evaluation.json").unlink()
    told.clear()
    do(job, told.append)
    assert told == ["measuring"]
    told.clear()
    do(job, told.append)
    assert told == []


def test_a_run_killed_before_its_first_file_begins_anew(killed: Callable[[int], Job]) -> None:
    job = killed(0)
    shutil.rmtree(job.folder)
    job.folder.mkdir()
    (job.folder / ".partial-config.yaml").touch()
    do(replace(job, test_on={}), lambda _: None)
    assert is_done(replace(job, test_on={}))
