"""Which system learns from what: curation, choices, self-training; and the stage `distill`."""

from factory.callable_package import make_callable

make_callable(__name__, "factory.distill.stage", "distill")
