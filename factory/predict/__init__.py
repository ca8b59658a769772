"""Running an exported student: load, decide, trust, scope, files, serve. Imports no torch."""

from factory.callable_package import make_callable

make_callable(__name__, "factory.predict.shards", "predict")
