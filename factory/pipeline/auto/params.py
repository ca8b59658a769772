"""The parameters of `buy`."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import Field, field_validator

from factory.errors import InputError
from factory.params import Params
from factory.pipeline.auto.curves import Kind
from factory.pipeline.steps import make_step


def _of(verb: str, more: str = "") -> Any:
    return Field({}, description=f"Parameters of `{verb}`; its defaults otherwise.{more}")


class BuyParams(Params):
    """The parameters of `buy`."""

    programs: int | None = Field(None, ge=1, description="Programs of the first round; by default two for each label, at"
        " least 12 and at most 48.")  # fmt: skip
    audit: int = Field(100, ge=0, description="Labels of the audit slice, asked with the first round: for estimates alone, as"
        " of `annotate`. No decision looks at them.")  # fmt: skip
    rounds: int = Field(6, ge=0, description="Most purchases after the first round. Six double the programs and bring some"
        " 300 anchors; a budget mostly ends it before. Where answers come by file or batch there are two, of twice the"
        " size.")  # fmt: skip
    kinds: list[Kind] = Field(list(get_args(Kind)), description="What may be bought after the first round; everything by"
        " default.")  # fmt: skip
    most_programs: int | None = Field(None, ge=1, description="Most programs in all; no bound by default.")
    hold_back: int = Field(0, ge=0, description="Keep the price of so many labels for later steps, such as the teacher's row of"
        " the report; none by default (`steps: auto` sets it).")  # fmt: skip
    author: dict[str, Any] = _of("author", " Its `sandbox` and `strict` are those of `vote` too.")
    annotate: dict[str, Any] = _of("annotate")
    synthesize: dict[str, Any] = _of("synthesize")
    denoise: dict[str, Any] = _of("denoise")
    distill: dict[str, Any] = _of("distill", " Its mixture is judged; the step's own parameters save a training.")

    @field_validator("author", "annotate", "synthesize", "denoise", "distill")
    @classmethod
    def _known(cls, given: dict[str, Any], info: Any) -> dict[str, Any]:
        try:
            make_step(str(info.field_name), given)
        except InputError as error:
            raise ValueError(error.what) from error
        return given
