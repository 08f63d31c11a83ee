"""``gradprom experiment``: many runs by a plan, each once, and their tables."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gradprom._arguments import add_command, whole_number
from gradprom.errors import PartialFailureError, UserError

if TYPE_CHECKING:
    from gradprom.experiments.engine import Failure
    from gradprom.experiments.plan import Plan

_EXAMPLES = """examples:
  gradprom experiment --list
  gradprom experiment table2 -o experiment/ --data data/ --dry-run
  gradprom experiment table2 -o experiment/ --data data/ --workers 2

The same command again goes on wherever it stopped, and tries again what failed.
exit code: 0 all is done, 1 some runs failed, 2 nothing could be done, 130 interrupted"""


def add_experiment_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``experiment`` to the commands of a parser."""
    summary = "train and measure the runs of a plan, each once, and write their tables"
    parser = add_command(commands, "experiment", summary, _EXAMPLES)
    parser.add_argument("plans", nargs="*", metavar="PLAN", help="a plan file, or the name of a shipped plan")
    parser.add_argument("-o", "--output", type=Path, help="folder for all of it")
    parser.add_argument("--list", action="store_true", help="list the shipped plans")
    parser.add_argument(
        "--scale", choices=("laptop", "paper"), default="laptop", help="which of the plan's sizes (default: laptop)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of the datasets, each in a folder of its name (default: GRADPROM_DATA, or what the plan says)",
    )
    parser.add_argument("--workers", type=whole_number(1), default=1, help="runs at a time (default: 1)")
    parser.add_argument("--seeds", type=whole_number(), nargs="+", metavar="SEED", help="in place of the plan's own")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and their steps, and do nothing")
    parser.add_argument(
        "--tables-only", action="store_true", help="write the tables of what is done, and train nothing"
    )
    parser.set_defaults(run=_experiment)


def _experiment(options: argparse.Namespace) -> int:
    if options.list:
        return _list()
    if not options.plans or options.output is None:
        raise UserError(
            "experiment needs a plan and a folder: give PLAN -o FOLDER, where PLAN is a file or a name that "
            "gradprom experiment --list shows"
        )
    plans = _plans(options.plans, options.seeds)
    given = options.data or os.environ.get("GRADPROM_DATA")
    data = Path(given) if given else None
    if options.dry_run:
        return _dry_run(plans, options.output, options.scale, data)
    failures: list[Failure] = []
    if not options.tables_only:
        from gradprom.experiments.engine import run_experiment

        try:
            failures = run_experiment(plans, options.output, scale=options.scale, data=data, workers=options.workers)
        except KeyboardInterrupt:
            print(f"gradprom: interrupted; the same command goes on with {options.output}", file=sys.stderr)
            return 130
    if not write_results(options.output, plans, options.scale, data) and not failures:
        raise UserError(
            f"{options.output}: holds no measured run of {', '.join(plan.name for plan in plans)}: give the folder of "
            "that experiment, or leave out --tables-only to begin it"
        )
    for failure in failures:
        print(f"{failure.name}: {failure.reason}", file=sys.stderr)
    if failures:
        raise PartialFailureError(
            f"{len(failures)} runs failed, as said above and in {options.output / 'logs'}: mend that, and the same "
            "command tries them again"
        )
    print(options.output)
    return 0


def write_results(directory: Path, plans: Sequence[Plan], scale: str, data: Path | None) -> bool:
    """Write the tables of what is done of an experiment, if there is any."""
    from gradprom.experiments.results import write

    return bool(write(directory, plans, scale, data))


def _plans(names: Sequence[str], seeds: Sequence[int] | None) -> list[Plan]:
    from gradprom.experiments.plan import read_plan, with_seeds

    plans: dict[str, Plan] = {}
    for name in names:
        plan = read_plan(name)
        if plan.name in plans:
            raise UserError(f"{name}: another of the plans is named {plan.name} too, and names are the tables' names")
        plans[plan.name] = with_seeds(plan, seeds) if seeds else plan
    return list(plans.values())


def _dry_run(plans: Sequence[Plan], output: Path, scale: str, data: Path | None) -> int:
    from gradprom.experiments.engine import count_steps, jobs_of, left_of
    from gradprom.experiments.plan import expand, merged
    from gradprom.experiments.schedule import parts_of

    jobs = jobs_of(merged(expand(plan, scale, data) for plan in plans), output)
    left = left_of(jobs)
    names = {job.name for job in left}
    for job in jobs:
        state = "to do" if job.name in names else "done"
        print(f"{sum(part.steps for part in parts_of(job.config)):>8} steps  {state:5}  {job.name}")
    steps = count_steps(left)
    print(
        f"{len(jobs)} runs, {len(left)} to do, in {steps.total - steps.done} steps of training: what runs share is "
        "done and counted once"
    )
    return 0


def _list() -> int:
    from gradprom.experiments.plan import shipped_plans

    plans = shipped_plans()
    width = max((len(plan.name) for plan in plans), default=0)
    for plan in plans:
        print(f"{plan.name:{width}}  {plan.title}")
    return 0
