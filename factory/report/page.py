"""The report: one self-contained HTML page and its Markdown twin. Everything from a corpus or a model is escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.canonical import digest
from factory.errors import WarehouseError
from factory.evaluation.rivals import ACTIVE, size_of
from factory.files.replace import replaced
from factory.report.known import labels_shown
from factory.result import StageResult

if TYPE_CHECKING:
    import jinja2

    from factory.warehouse.file import Warehouse

TEMPLATES = Path(__file__).parent / "templates"
MOST_SOURCE = 12_000
"""Characters of program sources in the Markdown twin, the first programs whole: of many, they would fill the page."""
NEXT_STEP = "factory ask RUN --budget 100 --out questions.csv"
"""What a report without a score advises."""
MOST_TEXT = 4_000
"""Characters of a text that the Markdown twin shows as an example."""


def write(warehouse: Warehouse, path: Path) -> StageResult:
    """Write `PATH.html` and `PATH.md`, unless they tell what they would tell already.

    Args:
        path: Without a suffix.

    Returns:
        `did.path` is the HTML page, `did.markdown` its twin.

    Raises:
        InputError: The warehouse has no task yet.
        WarehouseError: The place cannot be written.
    """
    from factory.report.facts import gather

    facts = gather(warehouse)
    facts["costs"] = None
    if facts["evaluation"]:
        from factory.evaluation.speed import costs_of

        facts["costs"] = costs_of(warehouse, [row["name"] for row in facts["evaluation"]["systems"]])
    key = _key(facts)
    page, twin = path.with_name(path.name + ".html"), path.with_name(path.name + ".md")
    did = {"path": str(page), "markdown": str(twin)}
    if _held(page) == key and _held(twin) == key:
        return StageResult("report", True, did)
    html, markdown = render(facts)
    try:
        for target, text in ((page, html), (twin, markdown)):
            with replaced(target, private=True) as draft:
                draft.write_text(text, encoding="utf-8")
    except OSError as error:
        words = f"the report cannot be written: {error.strerror or error}"
        raise WarehouseError(words, where=page, fix="Choose a folder where you may write") from error
    return StageResult("report", False, did, (f"report: {page}",))


def render(facts: Mapping[str, Any]) -> tuple[str, str]:
    """The two pages out of what `facts.gather` gives: (HTML, Markdown)."""
    view = {**facts, **_view(facts), **_shown_sources(facts["programs"]), "key": _key(facts)}
    html = _environment(autoescape=True).get_template("report.html.j2").render(view, pictures=_pictures(view))
    markdown = _environment(autoescape=False).get_template("report.md.j2").render(view)
    return html, _spaced(markdown)


def _shown_sources(programs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The programs whose sources the Markdown twin shows, and how many it leaves out, with their characters."""
    room, shown = MOST_SOURCE, 0
    for program in programs:
        room -= len(program["source"])
        if room < 0:
            break
        shown += 1
    left = [len(program["source"]) for program in programs[shown:]]
    return {"sources": programs[:shown], "sources_left": len(left), "characters_left": sum(left)}


def _spaced(markdown: str) -> str:
    """Blank lines around headings and tables, and no two of them running; code blocks stay as they are."""
    out: list[str] = []
    fence = ""
    for line in markdown.strip().splitlines():
        opens = re.match(r"`{3,}", line)
        if fence:
            out.append(line)
            fence = "" if line == fence else fence
            continue
        before = out[-1] if out else ""
        apart = opens or "#" in (line[:1], before[:1]) or line.startswith("|") != before.startswith("|")
        if line and before and apart:
            out.append("")
        if line or before:
            out.append(line)
        if opens:
            fence = opens[0]
    return "\n".join(out) + "\n"


def _key(facts: Mapping[str, Any]) -> str:
    from factory import __version__

    sources = [path.read_text(encoding="utf-8") for path in sorted(TEMPLATES.glob("*.j2"))]
    code = [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("page.py", "charts.py")]
    return digest([json.dumps(facts, sort_keys=True, default=str), sources, code, __version__])


def _held(path: Path) -> str | None:
    """The key in a page written earlier."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r'<meta name="label-factory-key" content="([0-9a-f]{64})">', text[:2000]) or re.search(
        r"<!-- label-factory-key: ([0-9a-f]{64}) -->\s*$", text[-200:]
    )
    return found[1] if found else None


def _view(facts: Mapping[str, Any]) -> dict[str, Any]:
    from factory import __version__

    evaluation = facts["evaluation"]
    multi = facts["task"]["kind"] == "multi"
    metric = "micro_f1" if multi else "accuracy"
    view: dict[str, Any] = {
        "metric": metric, "metric_name": "micro-F1" if multi else "accuracy", "version": __version__, "positive": None,
        "shown": None, "equivalents": None, "equivalents_says": "", "many": False, "next_step": NEXT_STEP,
    }  # fmt: skip
    if evaluation:
        by_name = {row["name"]: row for row in evaluation["systems"]}
        view["shown"] = by_name.get("student") or evaluation["systems"][0]
        view["positive"] = view["shown"]["metrics"].get("positive")
        view["equivalents"] = evaluation["label_equivalents"]
        view["many"] = len(facts["task"]["labels"]) > 20
        if view["equivalents"]:
            view["equivalents_says"] = worth_in_words(view["equivalents"])
    view["hands_off"] = not any(row["split"] == "seed" and row["rows"] for row in facts["splits"])
    view["audit"] = facts["audit"] and {**facts["audit"], "shown": labels_shown(facts["audit"])}
    view["tiles"] = _tiles(facts, metric, view)
    anchors = [
        ("known", "No score", facts["known"]), ("audit", "Agreement", facts["audit"]),
        ("systems", "Systems", evaluation), ("costs", "Cost of a million texts", facts["costs"]),
        ("quality", "In detail", evaluation),
        ("equivalents", "Label equivalents", view["equivalents"]), ("deferral", "Deferral", (evaluation or {}).get("deferral")),
        ("money", "Money", facts["money"]["of"]), ("task", "Task and texts", True),
        ("bought", "Bought", facts["bought"]), ("spend", "Spend", True),
        ("programs", "Programs", True), ("uncovered", "Uncovered and ties", True), ("lineage", "Lineage", facts["lineage"]),
        ("dropped", "Dropped", True),
    ]  # fmt: skip
    view["sections"] = [(anchor, title) for anchor, title, there in anchors if there]
    return view


def worth_in_words(curve: Mapping[str, Any]) -> str:
    """What the label-equivalents curve says, in a sentence."""
    target = f"{curve['target']:.3f}"
    if curve["worth"] is not None:
        return f"To score {target} as the student does, the same student needs about {curve['worth']:,.0f} random gold texts."
    if curve["above"]:
        return (
            f"The student scores {target}; the same student does not reach that even with {curve['sizes'][-1]:,} gold texts,"
            " all that there are."
        )
    return f"The student scores {target}; {curve['sizes'][0]:,} random gold texts, the fewest tried, already train one as good."


def _tiles(facts: Mapping[str, Any], metric: str, view: Mapping[str, Any]) -> list[dict[str, str]]:
    tiles = []
    if facts["evaluation"]:
        by_name = {row["name"]: row for row in facts["evaluation"]["systems"]}
        for name, words in (
            ("student", "student"), ("dev_only", "same student on dev gold"), ("full_gold", "same student on full gold"),
            ("teacher", "teacher itself"),
        ):  # fmt: skip
            if name in by_name:
                score = _score(by_name[name]["metrics"][metric])
                tiles.append({"value": score, "label": f"{view['metric_name']}, {words}"})
    curve = view["equivalents"]
    if curve:
        if curve["worth"] is not None:
            value = f"{curve['worth']:,.0f}"
        else:
            value = f"> {curve['sizes'][-1]:,}" if curve["above"] else f"< {curve['sizes'][0]:,}"
        tiles.append({"value": value, "label": "label equivalents"})
    if facts["programs"]:
        tiles.append({"value": f"{len(facts['programs'])}", "label": "accepted programs"})
    spend = facts["spend"]["total"]
    if facts["spend"]["rows"]:
        words = f"requests, {spend['tokens_in'] + spend['tokens_out']:,} tokens"
        tiles.append({"value": f"{spend['requests']:,}", "label": words})
    return tiles


def _pictures(view: Mapping[str, Any]) -> dict[str, str]:
    from factory.report import charts as pictures

    out = dict.fromkeys(("systems", "confusion", "reliability", "equivalents", "coverage", "money", "deferral"), "")
    evaluation, money = view["evaluation"], view["money"]
    rows = [(row["name"], row["score"], row["ci95"]) for row in (evaluation or {}).get("systems", ())] or [
        (row["system"], row["share"], (row["low"], row["high"])) for row in (view["audit"] or {}).get("systems", ())
    ]
    asked_for_each = ("teacher", "self_tuned")  # their money buys answers, no labels to learn from
    points = [
        {"name": name, "score": score, "ci95": ci95, "money": None if name in asked_for_each else money["of"].get(name), "line":
         "" if size_of(name) is None else "chosen by itself" if name.endswith(ACTIVE) else "drawn at random"}
        for name, score, ci95 in rows
    ]  # fmt: skip
    if any(point["money"] for point in points):
        out["money"] = pictures.money(
            points, view["metric"] if evaluation else "agreement with the model", money["axis"]
        )
    if evaluation:
        out["systems"] = pictures.systems(evaluation["systems"], view["metric"])
        by_name = {row["name"]: row for row in evaluation["systems"]}
        if evaluation["deferral"]:
            out["deferral"] = pictures.deferral(evaluation["deferral"], view["metric"])
        detail = view["shown"]["detail"]
        if detail.get("confusion"):
            out["confusion"] = pictures.confusion(detail["confusion"], detail["label_names"])
        if detail.get("reliability"):
            out["reliability"] = pictures.reliability(detail["reliability"], view["shown"]["metrics"]["ece"])
        if view["equivalents"]:
            full, dev = by_name.get("full_gold"), by_name.get("dev_only")
            gold = full["metrics"][view["metric"]] if full else None
            few = (dev["detail"].get("gold_texts", 0), dev["metrics"][view["metric"]]) if dev else None
            out["equivalents"] = pictures.equivalents(view["equivalents"], gold, few)
    if view["votes"]["histogram"] and view["programs"]:
        out["coverage"] = pictures.coverage(view["votes"]["histogram"])
    return out


def _environment(*, autoescape: bool) -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=autoescape, undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {
        "score": _score, "money": _money, "md": _markdown, "fenced": _fenced, "rounded": _rounded, "cut": _cut,
        "ticked": _ticked,
        "dear": lambda value: "–" if value is None else "0" if not value else f"{value:.2g}",
        "points": lambda gain, error: "–" if gain is None else f"{100 * gain:+.1f} ± {100 * (error or 0):.1f}",
        "signed": lambda value: f"{value:+.3f}".replace("-", "−"),
        "percent": lambda value: "–" if value is None else f"{100 * value:.1f} %",
        "count": lambda value: "–" if value is None else f"{int(value):,}",
    }  # fmt: skip
    return environment


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _money(value: float | None, unknown: int = 0) -> str:
    """What is known of a cost, as a lower bound where that of so many calls is not."""
    if value is None or (unknown and not value):
        return "unknown"
    return f"{'at least ' if unknown else ''}{value:.4f}" if value else "0"


def _rounded(value: float | None) -> str:
    """Three figures, without an exponent."""
    if value is None:
        return "–"
    return f"{value:{',.0f' if value >= 100 else '.1f' if value >= 10 else '.2f' if value >= 0.1 else '.2g'}}"


def _markdown(value: Any) -> str:
    """One line of hostile text for a Markdown table: no markup, no links, no HTML, no new cell."""
    text = " ".join(str(value).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)


def _ticked(value: str) -> str:
    """A sentence of ours for HTML: names between backticks are code, and everything is escaped."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(value))))


def _fenced(value: str) -> str:
    """Hostile text as a code block that it cannot close."""
    longest = max((len(run) for run in re.findall(r"`+", value)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{value}\n{fence}"


def _cut(value: str) -> str:
    """A text's beginning, and how much more there is of it."""
    if len(value) <= MOST_TEXT:
        return value
    return f"{value[:MOST_TEXT]} … ({len(value) - MOST_TEXT:,} more characters in the HTML page)"
