"""The teacher labels texts itself: for the teacher's row of a report, and as prompted labelling functions.

core.py   which texts are asked, what an answer's token probabilities say, contextual calibration
plan.py   numbered slots: which texts, frozen before anything is asked
settle.py from decided slots to annotations, or to a prompted labelling function's votes
stage.py  `annotate`: plan, ask, settle
"""
