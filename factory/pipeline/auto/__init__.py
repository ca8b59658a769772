"""What to buy next from the language model: programs, anchors or synthetic texts.

curves.py   what each kind of purchase brought in the benchmarks, and how many programs the first round asks for
decide.py   the pure core: what was bought and what it brought -> the next purchase, or why there is none
judge.py    what the line's answer is worth, by the anchors that teach
look.py     what a decision looks at
params.py   the parameters of the step
stage.py    the step `buy`: decides, has the other stages ask, and keeps what came of it
words.py    what a plan, a batch and a report say of it
"""
