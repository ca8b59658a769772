"""What the benchmarks share: cases by name, interleaved rounds, one JSON object per line on stdout, a table on stderr.

from _harness import Options, Skip, case, compare, main, row

@case("tfidf_agnews")
def tfidf(options: Options):
    measured = compare(ours, {"sklearn": theirs}, rounds=2 if options.quick else 5)   # each returns a figure or is timed
    return measured.rows("tfidf_agnews", unit="s", smaller_is_better=True, texts=7600)

if __name__ == "__main__":
    main(__doc__)
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
for _folder in (ROOT / "tests" / "llm", ROOT / "tests", ROOT):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))


class Skip(Exception):
    """A case that cannot run here; the words say why."""


@dataclass(frozen=True)
class Options:
    """What the command line asked for."""

    quick: bool = False
    only: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """The folder of public data sets.

        Raises:
            Skip: It is not there.
        """
        folder = Path(os.environ.get("LABEL_FACTORY_DATA", ROOT.parent / "shared" / "data"))
        if not (folder / "INDEX.md").exists():
            raise Skip(f"no data sets in {folder}: set LABEL_FACTORY_DATA to their folder")
        return folder


Row = dict[str, Any]
Run = Callable[[Options], "Row | Sequence[Row] | None"]
_CASES: list[tuple[str, Run]] = []


def case(name: str) -> Callable[[Run], Run]:
    """Register a case. It returns one row, several, or None if it printed them itself with `emit`."""

    def register(run: Run) -> Run:
        _CASES.append((name, run))
        return run

    return register


def row(
    name: str,
    ours: float,
    peer: float | None = None,
    *,
    peer_name: str | None = None,
    unit: str,
    smaller_is_better: bool = False,
    **sizes: Any,
) -> Row:
    """One measured case.

    Args:
        name: Of the case.
        ours: Our figure.
        peer: The figure to compare with: another library's, or a published one.
        peer_name: Whose it is, with version and source where it is published.
        unit: Of both figures.
        smaller_is_better: For times and errors; the ratio is above 1 where ours is better, either way.
        **sizes: What else matters (n, seeds, spread, confidence intervals, the commit).
    """
    ratio = None
    if peer is not None:
        top, bottom = (peer, ours) if smaller_is_better else (ours, peer)
        ratio = round(top / bottom, 4) if bottom else None
    return {"case": name, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit, "ratio": ratio, **sizes}


def emit(found: Row) -> None:
    """Print a row now: JSON on stdout, a line for people on stderr."""
    print(json.dumps(found, default=_plain), flush=True)
    if "skipped" in found:
        print(f"{found['case']:<40} skipped: {found['skipped']}", file=sys.stderr, flush=True)
        return
    peer = "" if found.get("peer") is None else f"{_short(found['peer']):>12} {found.get('peer_name') or ''}"
    ratio = "" if found.get("ratio") is None else f"x{found['ratio']:.2f}"
    print(
        f"{found['case']:<40} {_short(found['ours']):>12} {found['unit']:<12} {ratio:>8} {peer}",
        file=sys.stderr,
        flush=True,
    )


@dataclass(frozen=True)
class Measured:
    """Figures of interleaved rounds."""

    ours: tuple[float, ...]
    peers: Mapping[str, tuple[float, ...]]

    def rows(self, name: str, *, unit: str, smaller_is_better: bool = False, **sizes: Any) -> list[Row]:
        """A row for each peer: medians, and the spread (least, most) of the rounds."""
        mine = statistics.median(self.ours)
        found = []
        for peer_name, figures in self.peers.items():
            spread = {"ours_spread": [min(self.ours), max(self.ours)], "peer_spread": [min(figures), max(figures)]}
            found.append(
                row(
                    name,
                    mine,
                    statistics.median(figures),
                    peer_name=peer_name,
                    unit=unit,
                    smaller_is_better=smaller_is_better,
                    rounds=len(self.ours),
                    **spread,
                    **sizes,
                )
            )
        if not self.peers:
            spread = {"ours_spread": [min(self.ours), max(self.ours)], "rounds": len(self.ours)}
            found.append(row(name, mine, unit=unit, **spread, **sizes))
        return found


def compare(
    ours: Callable[[], Any], peers: Mapping[str, Callable[[], Any]], *, rounds: int = 5, warm_up: bool = True
) -> Measured:
    """Run ours and the peers in turn, round by round.

    Args:
        ours: Returns a figure; or anything else, and then its seconds count.
        peers: Likewise, by name.
        rounds: How often.
        warm_up: Run each once before, uncounted.
    """
    if warm_up:
        for function in (ours, *peers.values()):
            function()
    mine: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in peers}
    for number in range(rounds):
        turns = [(mine, ours), *((theirs[name], function) for name, function in peers.items())]
        for figures, function in turns if number % 2 == 0 else reversed(turns):
            figures.append(_figure(function))
    return Measured(tuple(mine), {name: tuple(figures) for name, figures in theirs.items()})


def main(description: str | None = None, extra: Callable[[argparse.ArgumentParser], None] | None = None) -> None:
    """Parse the command line and run the cases.

    Args:
        description: For `--help`.
        extra: Adds arguments of its own, found again in `Options.extra`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: about a minute in all")
    parser.add_argument("--only", metavar="REGEX", help="cases whose name matches")
    if extra is not None:
        extra(parser)
    given = vars(parser.parse_args())
    options = Options(given.pop("quick"), given.pop("only"), given)
    failed = False
    for name, run in _CASES:
        if options.only and not re.search(options.only, name):
            continue
        began = time.monotonic()
        try:
            found = run(options)
            for one in [] if found is None else [found] if isinstance(found, dict) else found:
                emit(one)
        except Skip as reason:
            emit({"case": name, "skipped": str(reason)})
        except Exception:
            failed = True
            traceback.print_exc()
            emit({"case": name, "skipped": "failed: see the traceback on stderr"})
        print(f"  ({name}: {time.monotonic() - began:.1f} s)", file=sys.stderr, flush=True)
    sys.exit(1 if failed else 0)


def _figure(function: Callable[[], Any]) -> float:
    began = time.perf_counter()
    found = function()
    seconds = time.perf_counter() - began
    return float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else seconds


def _short(figure: Any) -> str:
    return (
        f"{figure:,.4g}"
        if isinstance(figure, float) and abs(figure) < 10_000
        else f"{figure:,.0f}"
        if isinstance(figure, (int, float))
        else str(figure)
    )


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    return str(value)
