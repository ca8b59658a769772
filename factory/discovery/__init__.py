"""No labels yet: a task card out of texts alone, as in TnT-LLM (Wan et al. 2024), at the size of a laptop.

stage.py     `discover`: read texts, ask, write the card, and say what is unsure
batches.py   texts that are near one another, in batches of equal size
clusters.py  the cheap way: clusters of embeddings, each to be named
asking.py    the rounds: propose for each batch apart, join, label fresh texts twice, revise
taxonomy.py  proposals, labels, and what joining and revising makes of them
review.py    what two labellings of the same fresh texts say of the labels
write.py     the card, the pipeline, the texts with their labels, and the page of what was found
"""
