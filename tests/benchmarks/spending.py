"""What money buys: which purchases the line decides for, beside fixed mixes for the same tokens.

    python tests/benchmarks/spending.py [--quick] [--only REGEX] [--encoder minilm|NAME]
                                        [--heap 5000] [--tests 2000] [--folder DIR]

`curve/SET`: what another dozen programs and the first anchors took away of the error: where expectations begin
(`factory/pipeline/auto/curves.py`). `auto/SET`: the step `buy`, replayed from the recorded answers with the tokens of 12, 24
and 36 programs, its decisions, and its regret beside the best of three fixed mixes (programs alone; labels alone, by the same
student's recipe; half and half) and beside random splits. No audit slice is taken, as in `combination.py`: it would cost all the
same. What answers is the mixture where there is one, else the student. Warehouses, vectors and scores lie in --folder, which may
be that of `combination.py`; remove auto-SET-*.json there to have scores computed anew. `defer/SET` and `definition/trec`: see
`spending_defer.py`; `prepare` and `programs/newsgroups20`: see `spending_programs.py`.
"""

from __future__ import annotations

import spending_auto  # noqa: F401 - its cases
import spending_defer  # noqa: F401
import spending_programs  # noqa: F401
from _harness import main
from combination import arguments

if __name__ == "__main__":
    main(__doc__, arguments)
