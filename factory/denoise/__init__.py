"""From votes to labels: label models, what ties and uncovered texts get, auditing labels, and choosing what to ask about.

`votes.VoteSet` holds a label matrix sparsely; `models.fit_label_model` fits any model of the table `MODELS` on it; `auto` picks
one; `stage.denoise` does it for a warehouse.
"""

from factory.callable_package import make_callable

make_callable(__name__, "factory.denoise.stage", "denoise")
