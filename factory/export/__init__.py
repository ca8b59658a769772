"""What a user takes home: the folder of an exported student, its ONNX graph, its card."""

from factory.callable_package import make_callable

make_callable(__name__, "factory.export.stage", "export")
