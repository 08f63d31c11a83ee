"""Words on the command line to calls."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from gradprom import __version__
from gradprom._arguments import add_command, whole_number
from gradprom._data_command import add_data_command
from gradprom._experiment_command import add_experiment_command
from gradprom._export_command import add_export_command
from gradprom._models_command import add_models_command
from gradprom._serve_command import add_serve_command
from gradprom._train_command import add_train_help
from gradprom.errors import UserError

_EXAMPLES = """examples:
  gradprom demo                                              everything once, on embedded images
  gradprom train --config examples/isic.yaml -o runs/isic    train by a configuration
  gradprom evaluate runs/isic                                measure it on its test images
  gradprom enhance runs/isic noisy/ -o enhanced/             use it on images of your own
  gradprom models                                            ready-made enhancers, used by name
  gradprom experiment table2 -o exp --data data/             many runs by a plan, and their tables

gradprom is research software, not a medical device."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 (some of the work failed), 2 (a mistake in what was given)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        if words[:1] == ["train"] and not {"-h", "--help"} & set(words):
            return _train(words[1:])
        options = _parser().parse_args([_plain_number(word) for word in words])
        code: int = options.run(options)
        return code
    except UserError as error:
        print(f"gradprom: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        # a full disk, a missing permission: the system's own words say it best
        print(f"gradprom: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gradprom: interrupted; a training goes on with gradprom train --resume RUN", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gradprom",
        description="Medical image enhancement, trained together with a recognizer under gradient promotion.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gradprom {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, summary: str, example: str) -> argparse.ArgumentParser:
        return add_command(commands, name, summary, f"example:\n  {example}")

    demo = command("demo", "train, evaluate and enhance on embedded brain images, and write a report", "gradprom demo")
    demo.add_argument("-o", "--output", default="demo", type=Path, help="folder for everything (default: demo)")
    demo.add_argument("--overwrite", action="store_true", help="replace an earlier demonstration")
    demo.set_defaults(run=_demo)

    add_train_help(commands)

    evaluate = command("evaluate", "measure a run on test images", "gradprom evaluate runs/isic")
    evaluate.add_argument("model", type=Path, help="run folder, or a name of gradprom models")
    evaluate.add_argument("--dataset", help="another dataset than the run's own, see gradprom data list")
    evaluate.add_argument("--root", help="that dataset's folder, or the new place of the run's own")
    evaluate.add_argument(
        "--degradation", help="another one than the run's own, such as 'gaussian 0.1'; files are named by it"
    )
    evaluate.add_argument(
        "-o", "--output", type=Path, help="where to write evaluation.csv and .json (default: the run)"
    )
    evaluate.add_argument("--seed", type=int, default=0, help="of the test images' noise (default: 0)")
    evaluate.add_argument("--limit", type=whole_number(1), help="measure only so many images")
    evaluate.add_argument("--no-baselines", action="store_true", help="leave out input and non-local means")
    evaluate.add_argument("--cache", type=Path, help="folder that keeps non-local means between evaluations")
    evaluate.add_argument("--reader", type=Path, metavar="RUN", help="another run, whose recognizers read too")
    evaluate.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    evaluate.set_defaults(run=_evaluate)

    enhance = command("enhance", "enhance images with a trained run", "gradprom enhance runs/isic noisy/ -o enhanced/")
    enhance.add_argument("model", type=Path, help="run folder, a name of gradprom models, or an exported ONNX file")
    enhance.add_argument("inputs", type=Path, nargs="+", help="PNG, JPEG, TIFF, DICOM or NIfTI files, or folders")
    enhance.add_argument("-o", "--output", type=Path, required=True, help="folder for images of the same names")
    enhance.add_argument(
        "--channels",
        choices=("match", "each"),
        default="match",
        help="each: an image that is colour where the model is grey, or the reverse, is done channel by channel",
    )
    enhance.add_argument("--tile", type=whole_number(1), default=1024, help="side of a tile in pixels (default: 1024)")
    enhance.add_argument("--overlap", type=int, help="pixels that tiles share (default: as many as the model needs)")
    enhance.add_argument(
        "--window",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="grey DICOM, NIfTI: values seen as black and white (default: CT -1024 3071, else that of series or file)",
    )
    enhance.add_argument(
        "--deidentify", action="store_true", help="DICOM alone: take out what identifies the patient (file names stay)"
    )
    enhance.add_argument(
        "--max-pixels",
        type=whole_number(1),
        default=100_000_000,
        help="most pixels decoded at once (default: 100 million)",
    )
    enhance.add_argument(
        "--recognize",
        action="store_true",
        help="write what the run's recognizers read before and after: recognition.csv, NAME.mask-before, -after",
    )
    enhance.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    enhance.add_argument("--skip-existing", action="store_true", help="leave outputs that exist, do the others")
    enhance.add_argument(
        "--failed", type=Path, metavar="FILE", help="write there as CSV every image that failed, and why"
    )
    enhance.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    enhance.set_defaults(run=_enhance)

    add_data_command(commands)
    add_experiment_command(commands)
    add_models_command(commands)
    add_serve_command(commands)
    add_export_command(commands)

    report = command("report", "write the report page of runs", "gradprom report runs/a runs/b -o report.html")
    report.add_argument("runs", type=Path, nargs="+", help="run folders")
    report.add_argument("-o", "--output", type=Path, default=Path("report.html"), help="(default: report.html)")
    report.add_argument("--overwrite", action="store_true", help="replace a page that is there")
    report.set_defaults(run=_report)
    return parser


def _plain_number(word: str) -> str:
    """Write a negative number out, which argparse takes for an option as -1e3 or -1000.; other words stay.

    >>> _plain_number("-1e3"), _plain_number("-1000."), _plain_number("-1"), _plain_number("-o"), _plain_number("1e3")
    ('-1000.0', '-1000.0', '-1', '-o', '1e3')
    """
    if not re.fullmatch(r"-(\d+\.|(\d+\.?\d*|\.\d+)e[+-]?\d+)", word, re.ASCII | re.IGNORECASE):
        return word
    return format(Decimal(repr(float(word))), "f")


def _train(words: list[str]) -> int:
    from gradprom.training._parse import add_config_arguments, make_parser, to_config
    from gradprom.training.check import check

    parser = make_parser(
        prog="gradprom train",
        usage="gradprom train --config FILE -o RUN [--OPTION VALUE ...]",
        description="Train a run: warm-up, pretraining, cascade. Example: gradprom train --config examples/isic.yaml "
        "--degradation 'gaussian 0.1' -o runs/isic",
        add_help=False,
    )
    parser.add_argument("--help-all", action="help", help="explain every option, and do nothing")
    parser.add_argument("-o", "--output", type=str | None, help="run folder to be made")
    parser.add_argument("--resume", type=str | None, metavar="RUN", help="go on with a run from its last checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier run of that name")
    add_config_arguments(parser)
    options = parser.parse_args(words)
    if options.resume is not None:
        if len(words) > (1 if words[0].startswith("--resume=") else 2):
            raise UserError("--resume goes on with a run as it was configured: give no other options with it")
        folder = options.resume
    elif options.output is None:
        raise UserError("train needs a folder for the run: give -o RUN, or --resume RUN to go on with one")
    else:
        folder = options.output
        config = to_config(parser, options)
        check(config)
    _tune()
    from gradprom.training.run import resume, train

    path = resume(folder) if options.resume is not None else train(config, folder, overwrite=options.overwrite)
    if os.environ.get("LOCAL_RANK", "0") == "0":  # of several processes one speaks
        print(path)
    return 0


def _demo(options: argparse.Namespace) -> int:
    _tune()
    from gradprom.experiments.demo import demo

    page = demo(options.output, overwrite=options.overwrite)
    print(f"report: {page.resolve()}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    _tune()
    from rich.console import Console

    from gradprom.experiments.evaluate import evaluate_run

    result = evaluate_run(
        options.model,
        dataset=options.dataset,
        root=options.root,
        degradation=options.degradation,
        output=options.output,
        seed=options.seed,
        limit=options.limit,
        baselines=not options.no_baselines,
        cache=options.cache,
        reader=options.reader,
        device=options.device,
    )
    Console().print(result.table())
    return 0


def _enhance(options: argparse.Namespace) -> int:
    _tune()
    from gradprom.inference._report import check_list, count, passed_over, write_list
    from gradprom.inference.files import enhance_files
    from gradprom.inference.load import load
    from gradprom.inference.reader import load_reader

    if options.failed is not None:
        check_list(options.failed)
    try:
        done = enhance_files(
            load(options.model, device=options.device),
            options.inputs,
            options.output,
            reader=load_reader(options.model, device=options.device) if options.recognize else None,
            channels=options.channels,
            tile=options.tile,
            overlap=options.overlap,
            max_pixels=options.max_pixels,
            window=None if options.window is None else tuple(options.window),
            deidentify=options.deidentify,
            overwrite=options.overwrite,
            skip_existing=options.skip_existing,
        )
    except UserError as error:
        if options.failed is not None and error.failures:
            try:
                write_list(options.failed, error.failures)
            except UserError as other:
                raise type(error)(f"{error}\n{other}") from other
        raise
    others = count(done.passed_over, "other file")
    print(f"{len(done.written)} enhanced, {done.existing} existed already, {others} passed over")
    if done.read:
        print(f"{len(done.read)} that existed already: read now")
    for line in passed_over(done.no_images, done.links):
        print(line)
    if options.failed is not None:
        write_list(options.failed, ())
    return 0


def _report(options: argparse.Namespace) -> int:
    from gradprom.experiments.page import report

    print(report(options.runs, options.output, overwrite=options.overwrite))
    return 0


def _tune() -> None:
    """Before PyTorch allocates anything."""
    from gradprom._process import tune_malloc

    tune_malloc()


if __name__ == "__main__":
    sys.exit(main())
