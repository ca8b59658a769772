"""The report's pictures, as inline SVG: same figures, same bytes. Label names are never read as mathematics or markup."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

BLUE, GREY, LIGHT, RED, INK, GREEN = "#2f6fb0", "#8a94a0", "#c9d3de", "#c0504d", "#1f2933", "#3b8a5a"
_STYLE: Any = {
    "svg.hashsalt": "label-factory", "svg.fonttype": "path", "text.parse_math": False, "font.family": "DejaVu Sans",
    "font.size": 9, "axes.edgecolor": "#9aa5b1", "axes.labelcolor": INK, "text.color": INK, "xtick.color": "#52606d",
    "ytick.color": "#52606d", "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.axisbelow": True, "grid.color": "#e4e9ef",
    "grid.linewidth": 0.8,
}  # fmt: skip


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Axes, list[str]]]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        out: list[str] = []
        yield figure.add_subplot(), out
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
        text = buffer.getvalue()
        out.append(text[text.index("<svg") :])


def systems(rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Every system's score with its interval, best known names first from the top."""
    with _figure(7.4, 0.6 + 0.3 * len(rows)) as (axes, out):
        for place, row in enumerate(reversed(rows)):
            value = row["metrics"].get(metric) or 0.0
            low, high = row["ci95"] or (value, value)
            colour = BLUE if row["name"].startswith("student") else GREY
            axes.plot([low, high], [place, place], color=colour, linewidth=2.4, alpha=0.45, solid_capstyle="round")
            axes.plot([value], [place], "o", color=colour, markersize=6)
            axes.annotate(f"{value:.3f}", (high, place), (6, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks(range(len(rows)), [row["name"] for row in reversed(rows)])
        lowest = min((row["ci95"] or [0])[0] for row in rows)
        axes.set_xlim(max(0.0, lowest - 0.05), 1.03)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"{metric.replace('_', ' ')} on test, with 95 % interval")
    return out[0]


def money(rows: Sequence[Mapping[str, Any]], metric: str, axis: str) -> str:
    """Score against money: what was bought as points, rivals of more and more labels as lines, all others as levels."""
    from matplotlib.ticker import LogLocator

    bought = sorted((row for row in rows if row["money"]), key=lambda row: (row["money"], row["score"]))
    lines = {kind: [row for row in bought if row["line"] == kind] for kind in ("drawn at random", "chosen by itself")}
    with _figure(7.8, 4.0) as (axes, out):
        for (kind, points), colour in zip(lines.items(), (RED, GREEN), strict=True):
            if points:
                label = f"model's labels alone, {kind}"
                axes.plot(
                    [p["money"] for p in points],
                    [p["score"] for p in points],
                    "o-",
                    color=colour,
                    markersize=4,
                    label=label,
                )
        for number, row in enumerate(bought):
            low, high = row["ci95"] or (row["score"], row["score"])
            axes.plot([row["money"]] * 2, [low, high], color=GREY, linewidth=1, alpha=0.5)
            if not row["line"]:
                axes.plot([row["money"]], [row["score"]], "s", color=BLUE, markersize=5)
                at, place = (row["money"], row["score"]), ((6, 1), (-6, 1))[number % 2]
                side = "left" if place[0] > 0 else "right"
                axes.annotate(_short(row["name"]), at, place, textcoords="offset points", fontsize=8, ha=side)
        levels = sorted((row for row in rows if not row["money"]), key=lambda row: -row["score"])
        for number, row in enumerate(levels):
            style = ("-", "--", ":", "-.")[number % 4]
            label = f"{_short(row['name'])} {row['score']:.3f}"
            axes.axhline(row["score"], color=GREY, linewidth=0.9, linestyle=style, label=label)
        if bought:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
        axes.set_xlabel(f"{axis}, for the labels that it learned from")
        axes.set_ylabel(metric.replace("_", " "))
        axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
        axes.grid()
    return out[0]


def confusion(table: Sequence[Sequence[int]], names: Sequence[str], *, most: int = 20) -> str:
    """A confusion matrix, rows gold, shaded by share of the row; the largest classes where there are many."""
    import numpy as np

    counts = np.array(table)[:, : len(names)]
    sizes = counts.sum(axis=1)
    shown = np.sort(np.argsort(-sizes, kind="stable")[:most])
    shown = shown[(sizes[shown] > 0) | (counts[:, shown].sum(axis=0) > 0)]
    cells = counts[np.ix_(shown, shown)]
    shares = cells / np.maximum(sizes[shown, None], 1)
    labels = [_short(names[i]) for i in shown]
    side = max(2.6, 0.52 * len(shown) + 1.2)
    with _figure(side + 0.4, side) as (axes, out):
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for i, j in zip(*np.nonzero(cells), strict=True):
            colour = "white" if shares[i, j] > 0.55 else INK
            axes.text(j, i, f"{cells[i, j]}", ha="center", va="center", fontsize=8, color=colour)
        axes.set_xticks(range(len(shown)), labels, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(shown)), labels)
        axes.set_xlabel("said")
        axes.set_ylabel("gold")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return out[0]


def coverage(histogram: Sequence[Sequence[int]]) -> str:
    """How many train texts have 0, 1, 2, ... votes, and how many of those disagree."""
    most = max((votes for votes, _, _ in histogram), default=0)
    step = max(1, -(-(most + 1) // 24))
    bins: dict[int, list[int]] = {}
    for votes, count, conflicting in histogram:
        start = 0 if votes == 0 else 1 + (votes - 1) // step * step
        bins.setdefault(start, [0, 0])
        bins[start][0] += count
        bins[start][1] += conflicting
    starts = sorted(bins)
    with _figure(6.2, 2.9) as (axes, out):
        agree = [bins[start][0] - bins[start][1] for start in starts]
        clash = [bins[start][1] for start in starts]
        colours = [LIGHT if start == 0 else BLUE for start in starts]
        axes.bar(range(len(starts)), agree, color=colours, width=0.8)
        axes.bar(range(len(starts)), clash, bottom=agree, color=RED, alpha=0.75, width=0.8)
        names = [str(start) if step == 1 or start == 0 else f"{start}-{start + step - 1}" for start in starts]
        axes.set_xticks(range(len(starts)), names, rotation=0 if step == 1 else 40)
        axes.set_xlabel("votes on a training text (0: no program speaks of it)")
        axes.set_ylabel("texts")
        axes.margins(y=0.08)
        if any(clash):
            from matplotlib.patches import Patch

            known = [Patch(color=BLUE, label="in agreement"), Patch(color=RED, alpha=0.75, label="votes conflict")]
            axes.legend(handles=known, frameon=False, fontsize=8)
        axes.grid(axis="y")
    return out[0]


def equivalents(curve: Mapping[str, Any], full_gold: float | None, dev_only: tuple[int, float] | None) -> str:
    """The label-equivalents curve: the same student on random gold texts, and where it reaches the student."""
    with _figure(7.8, 3.3) as (axes, out):
        axes.fill_between(curve["sizes"], curve["low"], curve["high"], color=BLUE, alpha=0.15, linewidth=0)
        axes.plot(
            curve["sizes"], curve["mean"], "o-", color=BLUE, markersize=4, linewidth=1.6, label="random gold texts"
        )
        axes.axhline(curve["target"], color=RED, linewidth=1.4, label="student, no gold")
        if full_gold is not None:
            axes.axhline(full_gold, color=GREY, linewidth=1, linestyle="--", label="full gold")
        if dev_only is not None and dev_only[0] > 0:
            axes.plot([dev_only[0]], [dev_only[1]], "D", color=GREEN, markersize=5, label="dev only")
        if curve.get("worth"):
            axes.axvline(curve["worth"], color=RED, linewidth=0.9, linestyle=":")
            at, words = (curve["worth"], axes.get_ylim()[0]), f"{curve['worth']:,.0f} labels"
            axes.annotate(words, at, (5, 6), textcoords="offset points", color=RED, fontsize=9)
        axes.set_xscale("log")
        axes.set_xticks(curve["sizes"], [f"{size:,}" for size in curve["sizes"]])
        axes.minorticks_off()
        axes.set_xlabel("gold texts (10 random draws; band: 10th to 90th percentile)")
        axes.set_ylabel(curve.get("metric", "accuracy").replace("_", " "))
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
        axes.grid()
    return out[0]


def deferral(found: Mapping[str, Any], metric: str) -> str:
    """Score against the share that is handed over, a line for each system, the language model alone as a level."""
    with _figure(7.4, 3.4) as (axes, out):
        for row, colour in zip(found["systems"], (BLUE, GREEN, RED, GREY), strict=False):
            shares = [100 * share for share in found["shares"]]
            low, high = zip(*(point["ci95"] for point in row["points"]), strict=True)
            axes.fill_between(shares, low, high, color=colour, alpha=0.12, linewidth=0)
            scores = [point["score"] for point in row["points"]]
            axes.plot(shares, scores, "o-", color=colour, markersize=4, label=row["system"])
        axes.axhline(found["teacher"], color=INK, linewidth=0.9, linestyle="--", label="language model alone")
        axes.set_xlabel("least sure texts handed to the language model, % (band: 95 % interval)")
        axes.set_ylabel(metric.replace("_", " "))
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
        axes.grid()
    return out[0]


def reliability(bins: Sequence[Mapping[str, float]], ece: float) -> str:
    """How often the student is right at each level of confidence."""
    with _figure(3.6, 3.3) as (axes, out):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        total = max(sum(b["n"] for b in bins), 1)
        xs, ys = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
        axes.plot(xs, ys, color=BLUE, linewidth=1.2, alpha=0.6)
        axes.scatter(xs, ys, s=[18 + 260 * b["n"] / total for b in bins], color=BLUE, alpha=0.75, linewidth=0)
        axes.set_xlim(0, 1.03)
        axes.set_ylim(0, 1.05)
        axes.set_xlabel(f"confidence (ECE {ece:.3f})")
        axes.set_ylabel("accuracy")
        axes.grid()
    return out[0]


def _short(name: str) -> str:
    """A name as the pictures' font can write it: a character that it lacks by its number, an unprintable one as `?`."""
    has = _characters()
    plain = [c if not c.isprintable() or ord(c) in has else f"U+{ord(c):04X}" for c in name]
    shown = "".join(c if c.isprintable() else "?" for c in plain)
    return shown if len(shown) <= 22 else shown[:21] + "…"


@cache
def _characters() -> frozenset[int]:
    """The characters of the font."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(_STYLE["font.family"])).get_charmap())
