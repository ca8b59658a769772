"""Several classifiers taught by programs' votes, texts and anchors, mixed by how likely they find anchors they have not seen.

retire.py   programs that are below chance on the anchors
members.py  the classifiers
weigh.py    their weights
mix.py      cross-fitting, weighing, calibration
compact.py  how often the student that it teaches says what anchors say
keep.py     its members as files: the glass box
"""
