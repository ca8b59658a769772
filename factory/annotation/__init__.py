"""The teacher labels texts itself: for the teacher's row of a report, and as prompted labelling functions.

core.py     the order of a sample, what an answer's token probabilities say, contextual calibration
choose.py   which texts are asked, as slots of a plan
retrieve.py which labels a text is shown where the card has many, and asking with all of them
anchors.py  which training texts judge and teach
settle.py   from decided slots to annotations, or to a prompted labelling function's votes
stage.py    `annotate`: plan, ask, settle
"""
