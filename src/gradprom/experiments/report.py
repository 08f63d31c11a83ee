"""The report: one HTML file with everything in it, that needs no network, no scripts and no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradprom import measures
from gradprom._evaluation import COLUMNS, plus_minus
from gradprom._files import write_text
from gradprom.experiments._curves import Plot, promotion_plots, promotion_summary, training_plots

_ABOUT = (
    "Task-driven image enhancement with gradient promotion: an enhancer learns to restore degraded images, and the "
    "gradient of a recognizer that reads them is promoted into it only where it does not oppose the enhancer's own. "
    "Every result stands beside the degraded input itself and, where it applies, non-local means, which needs no "
    "training; what a recognizer reads of the clean images stands beside what it reads of the enhanced ones."
)
_DISCLAIMER = (
    "Not a medical device: for research only, not for diagnosis. Enhanced images may show what is not there and hide "
    "what is."
)
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1f23; --soft: #5c636b; --page: #fff; --card: #f4f5f7; --line: #d5d9de; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --soft: #a2a9b1; --page: #131518; --card: #1d2024; --line: #3a3f46; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 80rem; color: var(--ink); background: var(--page);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
p, li { max-width: 46rem; } .soft, figcaption { color: var(--soft); font-size: .875rem; }
.warning { border-left: .25rem solid #c8504b; padding-left: .75rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9375rem; }
th, td { padding: .3rem .75rem .3rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; }
tbody th { padding-top: 1rem; white-space: normal; } tr.enhanced { font-weight: 600; }
figure { margin: 0; min-width: 0; } img { display: block; width: 100%; height: auto; }
.pictures { display: grid; gap: .75rem; grid-template-columns: repeat(var(--columns), minmax(0, 22rem)); }
.plots { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }
details { margin: .5rem 0; background: var(--card); border-radius: .375rem; padding: .5rem .75rem; }
summary { cursor: pointer; } pre { overflow-x: auto; font-size: .8125rem; margin: .5rem 0; }
@media (max-width: 40rem) {
  .pictures.wide { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  table { font-size: .8125rem; } th, td { padding-right: .5rem; }
}
"""


@dataclass
class ReportRun:
    """What a report shows of one run.

    Attributes:
        name: of the run, any text.
        config: the complete configuration, nested.
        summary: per method its measures, as :attr:`gradprom.evaluation.Evaluation.summary`.
        metrics_csv: losses over steps, if there are any.
        promotion_csv: what promotion did at each step, if there was any.
        pictures: caption and image, shown side by side; an image is (H, W) or (H, W, 1 or 3), of uint8, uint16 or
            floating point in [0, 1].
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Mapping[str, float | int | None]] = field(default_factory=dict)
    metrics_csv: Path | None = None
    promotion_csv: Path | None = None
    pictures: Sequence[tuple[str, NDArray[Any]]] = ()


def write_report(path: Path, title: str, runs: Sequence[ReportRun], notes: Sequence[str] = ()) -> None:
    """Write one self-contained HTML file: measures, pictures, curves and configurations of ``runs``.

    Args:
        path: the file; an existing one is replaced, whole.
        title: any text.
        runs: in the order they are shown.
        notes: sentences for the reader, shown at the top.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "report.html"
        >>> write_report(path, "σ = 0.1 & more", [ReportRun("first", {"steps": 10})])
        >>> "σ = 0.1 &amp; more" in path.read_text(encoding="utf-8")
        True
    """
    sections = [
        f"<h1>{escape(title)}</h1><p>{_ABOUT}</p><p class='warning'>{_DISCLAIMER}</p>",
        _list(notes),
        _section("Measures", _measures(runs)),
        _section("Before and after", "".join(_titled(run.name, _pictures(run.pictures)) for run in runs)),
        _section("Training", _plots(training_plots([(run.name, run.metrics_csv) for run in runs]))),
        _section("Promotion", "".join(_titled(run.name, _promotion(run.promotion_csv)) for run in runs)),
        _section("Configuration", "".join(_configuration(run) for run in runs)),
    ]
    write_text(
        path,
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        # nothing in this page loads or runs anything, and the browser is told so
        "<meta http-equiv='Content-Security-Policy' "
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body>\n</html>\n",
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _titled(name: str, body: str) -> str:
    return f"<h3>{escape(name)}</h3>{body}" if body else ""


def _list(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>" if sentences else ""


def _measures(runs: Sequence[ReportRun]) -> str:
    runs = [run for run in runs if run.summary]
    taken = [key for key in COLUMNS if any(s.get(key) is not None for run in runs for s in run.summary.values())]
    head = "".join(
        f"<th>{name}</th>" for name in ("method", "PSNR (dB)", "SSIM", *(COLUMNS[k] for k in taken), "images")
    )
    body = []
    for run in runs:
        body.append(f"<tr><th colspan='{4 + len(taken)}' scope='rowgroup'>{escape(run.name)}</th></tr>")
        for method, values in run.summary.items():
            cells = [
                escape(method),
                plus_minus(values.get("psnr"), values.get("psnr_std"), 2),
                plus_minus(values.get("ssim"), values.get("ssim_std"), 3),
                *(plus_minus(values.get(key), None, 3) for key in taken),
                escape(str(values.get("images", "–"))),
            ]
            style = " class='enhanced'" if method == "enhanced" else ""
            body.append(f"<tr{style}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    if not body:
        return ""
    return (
        f"<div class='scroll' tabindex='0'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
        f"<p class='soft'>{escape(measures.PROTOCOL)}</p>"
    )


def _pictures(pictures: Sequence[tuple[str, NDArray[Any]]]) -> str:
    if not pictures:
        return ""
    columns = len(pictures) if len(pictures) <= 4 else 3
    figures = "".join(_figure(_png(image), caption) for caption, image in pictures)
    return f"<div class='pictures{' wide' if columns > 3 else ''}' style='--columns:{columns}'>{figures}</div>"


def _plots(plots: Sequence[Plot]) -> str:
    return f"<div class='plots'>{''.join(_figure(p.png, p.caption) for p in plots)}</div>" if plots else ""


def _promotion(path: Path | None) -> str:
    return _list(promotion_summary(path)) + _plots(promotion_plots(path))


def _configuration(run: ReportRun) -> str:
    import yaml

    if not run.config:
        return ""
    text = yaml.safe_dump(_plain(run.config), sort_keys=False, allow_unicode=True)
    return f"<details><summary>{escape(run.name)}</summary><pre>{escape(text)}</pre></details>"


def _plain(value: object) -> object:
    """What YAML can say; anything else as its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _figure(png: bytes, caption: str) -> str:
    source = base64.b64encode(png).decode("ascii")
    text = escape(caption)
    return f"<figure><img alt='{text}' src='data:image/png;base64,{source}'><figcaption>{text}</figcaption></figure>"


def _png(image: NDArray[Any]) -> bytes:
    from PIL import Image

    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if np.issubdtype(image.dtype, np.floating):
        image = (np.nan_to_num(np.clip(image, 0, 1)) * 255).round().astype(np.uint8)
    elif image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, format="PNG", optimize=True)
    return file.getvalue()
