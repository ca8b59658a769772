"""Where model-written Python runs: `sealed` inside the worker processes, `host` on our side."""
