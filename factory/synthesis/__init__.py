"""Texts that a language model writes for the labels of a task.

`loop` is the heart: numbered slots, decided in slot order, topped up until every label has what was asked for. `synthesizrr`,
`few_shot` and `self_guide` say what each slot asks; `filters`, `near` and `cartography` say what is kept; `measures` tells how
varied and how real the result is; `tune` lets the same model learn from its own data. `stage` ties them to the warehouse.
"""
