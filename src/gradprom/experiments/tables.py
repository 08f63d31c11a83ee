"""Results of an experiment as CSV, Markdown and LaTeX, with the paper's figures beside them; pure functions of records.

A difference is never shown without its interval and what that interval allows to say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gradprom.experiments._layout import Cell, about, blocks_of
from gradprom.experiments._result import COLUMNS, Result, read_results, write_results

__all__ = ["COLUMNS", "Result", "latex", "markdown", "read_results", "write_results"]

_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "{}$&#_%"}
    | {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}", "[": "{[}", "]": "{]}", "<": "$<$", ">": "$>$"}
    | {"±": r"$\pm$", "σ": r"$\sigma$", "γ": r"$\gamma$", "λ": r"$\lambda$", "ρ": r"$\rho$", "–": "--", "\n": " "}
)
_FIT = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"
_MARKDOWN = str.maketrans(
    {character: f"\\{character}" for character in "\\`*|"} | {"<": "&lt;", "&": "&amp;", "\n": " "}
)


def markdown(results: Sequence[Result], title: str) -> str:
    """GitHub tables of image quality, recognition and differences, as far as there are any; one column a level.

    Args:
        results: of one table, in any order.
        title: any text; becomes a heading.

    Raises:
        ValueError: there is nothing to show, or there are two results of one method at one level.

    Example:
        >>> cell = {"table": "5", "dataset": "isic2018", "task": "denoise", "level": "0.1", "images": 111}
        >>> ours = Result(**cell, method="enhancer_only", psnr=36.193, ssim=0.897, paper_psnr=19.478)
        >>> base = Result(**cell, method="non-local means", psnr=33.91, ssim=0.845)
        >>> print(markdown([ours, base], "Denoising"))
        ### Denoising
        <BLANKLINE>
        Image quality: PSNR in dB / SSIM
        <BLANKLINE>
        | method | σ 0.1 |
        | --- | --- |
        | non-local means | 33.91 / 0.845 |
        | enhancer_only | **36.19** / 0.897 (paper 19.478 / –) |
        <BLANKLINE>
        Means over the test images, ± the sample standard deviation over seeds where there are several. ...
        <BLANKLINE>
        Test images: 111.
        <BLANKLINE>
    """
    parts = [f"### {title.translate(_MARKDOWN)}"]
    for block in blocks_of(results):
        header = [name.translate(_MARKDOWN) for name in (*block.keys, *block.levels)]
        lines = [header, ["---"] * len(header)]
        for keys, cells in block.rows:
            lines.append([*(key.translate(_MARKDOWN) for key in keys), *map(_markdown_cell, cells)])
        parts.append(block.caption.translate(_MARKDOWN))
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        parts.append(block.note)
    return "\n\n".join([*parts, *(text.translate(_MARKDOWN) for text in about(results))]) + "\n"


def _markdown_cell(cell: Cell) -> str:
    bold = f"**{cell.bold}**" if cell.bold else ""
    return f"{bold}{cell.text} {cell.below}".rstrip()


def latex(results: Sequence[Result], title: str, label: str) -> str:
    r"""The same tables in one LaTeX ``table*``, made smaller where they are too wide for the page.

    The document needs the packages ``booktabs`` and ``graphicx``.

    Args:
        results: of one table, in any order.
        title: any text; begins the caption.
        label: for ``\ref``: letters, digits and ``:._-``.

    Raises:
        ValueError: as for :func:`markdown`, or the label has other characters.

    Example:
        >>> ours = Result("5", "isic2018", "denoise", "0.1", "enhancer_only", psnr=36.193, ssim=0.897)
        >>> print(latex([ours], "100 % noise", "tab:noise"))
        \begin{table*}
        \centering
        \footnotesize
        \caption{100 \% noise. ...}
        \label{tab:noise}
        \resizebox{...}{!}{%
        \begin{tabular}{lc}
        \multicolumn{2}{l}{Image quality: PSNR in dB / SSIM} \\
        \toprule
        method & $\sigma$ 0.1 \\
        \midrule
        enhancer\_only & \textbf{36.19} / 0.897 \\
        \bottomrule
        \end{tabular}}
        \end{table*}
        <BLANKLINE>
    """
    if not re.fullmatch(r"[\w:.-]+", label, flags=re.ASCII):
        raise ValueError(f"label {label!r} must be made of letters, digits and :._-")
    blocks = blocks_of(results)
    caption = " ".join([f"{title}.", *(block.note for block in blocks), *about(results)])
    lines = [r"\begin{table*}", r"\centering", r"\footnotesize"]
    lines += [rf"\caption{{{_latex(caption)}}}", rf"\label{{{label}}}"]
    for block in blocks:
        width = len(block.keys) + len(block.levels)
        lines += [
            _FIT,
            rf"\begin{{tabular}}{{{'l' * len(block.keys)}{'c' * len(block.levels)}}}",
            rf"\multicolumn{{{width}}}{{l}}{{{_latex(block.caption)}}} \\",
            r"\toprule",
            rf"{' & '.join(map(_latex, (*block.keys, *block.levels)))} \\",
            r"\midrule",
            *(rf"{' & '.join([*map(_latex, keys), *map(_latex_cell, cells)])} \\" for keys, cells in block.rows),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\par\medskip",
        ]
    return "\n".join([*lines[:-1], r"\end{table*}"]) + "\n"


def _latex(text: str) -> str:
    # a minus before a number is one, not a hyphen
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", text.translate(_LATEX))


def _latex_cell(cell: Cell) -> str:
    bold = rf"\textbf{{{_latex(cell.bold)}}}" if cell.bold else ""
    text = f"{bold}{_latex(cell.text)}"
    return rf"\shortstack{{{text}\\{_latex(cell.below)}}}" if cell.below else text
