"""The other process: it does one job after another, and says what it is at."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gradprom._files import write_text
from gradprom._process import tune_malloc
from gradprom.errors import UserError
from gradprom.experiments.records import is_measured, is_measured_on, is_trained, note_measured
from gradprom.experiments.schedule import Job

if TYPE_CHECKING:
    from gradprom.training.config import TrainingConfig

Tell = Callable[[str], None]
Work = Callable[[Job, Tell], None]
"""Does a job and tells what it is at; what it raises is why the job failed."""
Message = tuple[Literal["ready", "at", "done", "failed", "broken", "interrupted", "died"], str]
"""What a worker says: with ``broken`` and ``interrupted`` it ends."""


def do(job: Job, tell: Tell) -> None:
    """Train a run, or go on with it where it stopped, and measure it; what is done already is not done again.

    Raises:
        UserError: the data, or something on disk, is not as it must be.
    """
    from gradprom.experiments.evaluate import evaluate_run
    from gradprom.training.run import resume, train

    if not is_trained(job.folder):
        tell("training")
        if (job.folder / "config.yaml").exists():
            _refer_to_new_places(job)
            resume(job.folder)
        else:
            for leftover in job.folder.glob(".partial-*"):
                leftover.unlink()
            train(job.config, job.folder)
    device = _device(job.config.training)
    # what nothing was trained for is the same for all strategies: the runs of one measure it
    baselines = job.config.strategy == "enhancer_only"
    for name, root in job.test_on.items():
        if not is_measured_on(job, name):
            tell(f"measuring on {name}")
            output = job.folder / f"on-{name}"
            evaluate_run(
                job.folder,
                dataset=name,
                root=root,
                output=output,
                baselines=baselines,
                cache=job.cache,
                device=device,
            )
    if not is_measured(job):
        tell("measuring")
        root = job.config.dataset.root
        evaluate_run(
            job.folder,
            root=root,
            reader=job.reader,
            baselines=baselines,
            cache=job.cache,
            device=device,
        )
        note_measured(job)


def serve(connection: Connection, threads: int, work: Work) -> None:
    """Do the jobs that come through a connection until it is closed: the whole of a worker's process.

    A job's failure, or its interruption by SIGINT, is sent back as a message. When the process that started this one
    dies, this one ends at once: nobody else may be at the same folder meanwhile.
    """
    os.setpgid(0, 0)  # Ctrl-C in the terminal is the other process's; it hands it on
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may have it ignored
    threading.Thread(target=_follow, daemon=True).start()
    tune_malloc()

    try:
        connection.send(("ready", ""))
        while True:
            job = connection.recv()
            with _into(job.log):
                reply = _attempt(job, work, lambda at: connection.send(("at", at)))
            connection.send(reply)
            if reply[0] == "broken":
                return
            gc.collect()  # models and optimizers refer to each other
    except KeyboardInterrupt:
        connection.send(("interrupted", "was interrupted"))
    except (EOFError, BrokenPipeError):
        return


def _attempt(job: Job, work: Work, tell: Tell) -> Message:
    try:
        work(job, tell)
    except UserError as error:
        print(f"failed: {error}", file=sys.stderr)
        return "failed", str(error)
    except Exception as error:
        # memory that was not to be had, a device in an unknown state: the next run gets a new process
        traceback.print_exc()
        return "broken", f"{type(error).__name__}: {error} (see {job.log})"
    return "done", ""


def _follow() -> None:
    """End with the process that started this one."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _into(log: Path) -> Iterator[None]:
    """Have all that is printed, by whatever library, go to the end of a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = os.dup(1), os.dup(2)
    with log.open("a", encoding="utf-8") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)


def _refer_to_new_places(job: Job) -> None:
    """The folder of the images or of the experiment may have moved since the run began."""
    import yaml

    from gradprom.training.config import to_dict
    from gradprom.training.folder import CONFIG

    write_text(job.folder / CONFIG, yaml.safe_dump(to_dict(job.config), sort_keys=False))


def _device(training: TrainingConfig) -> str:
    """Where a run is measured: where it was trained, as far as that can be had."""
    import torch

    if training.accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return training.accelerator
