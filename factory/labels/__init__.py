"""Cards of many labels: which few of them a text could have, and which are easily taken for one another.

index.py       labels found for a text by their names, meanings, aliases and examples: dense and BM25, fused by reciprocal ranks
candidates.py  the labels that each text of a warehouse is shown with
groups.py      labels near one another: siblings of a label, and groups of labels that are easily confused
recall.py      how often the candidates hold the label, by anchors that saw all labels
"""
