"""Templates, forms, and answers: a whole page, or a part of one where htmx asks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qs, urlencode

from fastapi import Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from factory.errors import FactoryError, InputError

if TYPE_CHECKING:
    import jinja2

    from factory.studio.desk import Desk, Undo

HERE = Path(__file__).parent
MOST_FIELDS = 4000


class Form:
    """A posted form: `form["name"]` is the last value of a field, `form.all("name")` every one."""

    def __init__(self, values: dict[str, list[str]]) -> None:
        self.values = values

    def __getitem__(self, name: str) -> str:
        return self.values.get(name, [""])[-1].replace("\r\n", "\n")

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def all(self, name: str) -> list[str]:
        """Every value of a field, in order."""
        return [value.replace("\r\n", "\n") for value in self.values.get(name, [])]

    def number(self, name: str) -> int:
        """A field that holds a number.

        Raises:
            InputError: It holds none.
        """
        return number(self[name], name)


async def _form(request: Request) -> Form:
    body = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "send a form")
    try:
        return Form(parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError as error:
        raise HTTPException(400, "this is not a form, or it has too many fields") from error


Posted = Annotated[Form, Depends(_form)]


def number(value: str, name: str) -> int:
    """A number out of a form or a link.

    Raises:
        InputError: It is none.
    """
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise InputError(f"`{name}` is a number, not {value[:40]!r}")
    return int(value)


class Views:
    """The pages of one desk."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.templates = _environment()

    def page(
        self, request: Request, template: str, /, *, part: str | None = None, status: int = 200, **values: Any
    ) -> Response:
        """A page; its part `part` (a template of its own) where htmx asks for a part."""
        partly = part is not None and is_part(request)
        more = {} if partly else self.desk.head()
        found = self.templates.get_template(f"{part if partly else template}.html.j2")
        html = found.render({**more, **values, "here": request.url.path, "command": self.desk.command})
        return HTMLResponse(html, status)

    def done(self, request: Request, words: str, to: str, undo: Undo | None = None) -> Response:
        """Say what was done, on the page that comes next, with the way back."""
        self.desk.tell(words, undo)
        if is_part(request):
            return Response(headers={"HX-Redirect": to})
        return RedirectResponse(to, 303)

    def fault(self, request: Request, error: FactoryError, status: int = 422) -> Response:
        """A person's mistake, or a run in the way, in one line."""
        if is_part(request):
            return self.page(request, "fault", part="_fault", fault=str(error), status=status)
        return self.page(request, "fault", fault=str(error), status=status)


def is_part(request: Request) -> bool:
    """Whether htmx asks, and for less than a page."""
    return request.headers.get("hx-request") == "true" and request.headers.get("hx-boosted") != "true"


def back_to(form: Form, default: str) -> str:
    """Where a form says that it stood, as a path of ours."""
    path = form["back"]
    return path if re.fullmatch(r"/[a-z]+(/[0-9]+)?(\?[\w%=&.+~*-]*)?", path, re.ASCII) else default


def link(path: str, **values: Any) -> str:
    """A link with those of the values that are not empty."""
    told = {name: value for name, value in values.items() if value not in (None, "", False)}
    return f"{path}?{urlencode(told)}" if told else path


def pieces(text: str, marks: Sequence[tuple[str, str]]) -> list[tuple[str, str | None]]:
    """A text cut at the words that programs fired on: `(piece, who fired on it, or None)`.

    Args:
        text: The text.
        marks: `(words, program's name)`; words that do not occur are left out.
    """
    spans: dict[tuple[int, int], list[str]] = {}
    for words, name in marks:
        wanted = r"\s+".join(re.escape(word) for word in words.removesuffix("...").split())
        found = re.search(wanted, text, re.IGNORECASE) if wanted else None
        if found:
            spans.setdefault(found.span(), []).append(name)
    cut: list[tuple[str, str | None]] = []
    at = 0
    for (start, end), names in sorted(spans.items(), key=lambda one: (one[0][0], -one[0][1])):
        if start >= at:
            cut += [(text[at:start], None), (text[start:end], ", ".join(dict.fromkeys(names)))]
            at = end
    return [*((piece, who) for piece, who in cut if piece), (text[at:], None)]


def _environment() -> jinja2.Environment:
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    found.filters |= {
        "percent": lambda value: "–" if value is None else f"{100 * value:.1f}%",
        "figure": lambda value: "–" if value is None else f"{value:.3g}",
        "score": lambda value: "–" if value is None else f"{value:.3f}",
        "count": lambda value: "–" if value is None else f"{int(value):,}",
    }  # fmt: skip
    found.globals |= {"link": link, "pieces": pieces}
    return found
