"""The plan's vocabulary: approaches (rubrics) and variants, so that programs differ by design. Prompts depend on these words."""

from __future__ import annotations

from dataclasses import dataclass

VARIANTS = (
    ("common", "The common, everyday evidence: what most texts of a label have in them."),
    ("names",
        "Names and terms: kinds of people, organisations, places, products, works, technical terms, units, abbreviations."),
    ("actions", "Verbs and intentions: what is done, asked for, offered, felt or reported, in all tenses and persons."),
    ("indirect",
        "Indirect evidence: rarer words, paraphrases, slang, contexts and companions that remain when the obvious cues are"
        " absent."),
)  # fmt: skip
"""What distinguishes programs of the same approach: name and words."""


@dataclass(frozen=True)
class Rubric:
    """One approach.

    Attributes:
        name: A short name; part of the program's name.
        title: What stands in the list of approaches already taken.
        words: What the prompt says.
    """

    name: str
    title: str
    words: str


BROAD = (
    Rubric("vocabulary", "word lists for every label, most matches win",
        "Vocabulary, for all labels. A table that maps every label to the words and word beginnings that its texts typically"
        " use. Count how many of each label's words occur in the text as whole words; return the label with the highest count,"
        " and None if nothing matches or two labels share the highest count."),
    Rubric("phrases", "an ordered list of regular expressions, the first match wins",
        "Phrases and patterns, for all labels. An ordered list of compiled regular expressions, each with its label, the most"
        " telling first: fixed expressions, words in sequence with small gaps, typical beginnings and endings, forms such as"
        " amounts, numbers, links and addresses. Return the label of the first that matches, and None if none does."),
    Rubric("form", "how the text is built: first words, punctuation, length, digits, capitals",
        "Form, for all labels that have one. Look at how the text is built rather than at its subject: its first two or three"
        " words, question words and what follows them, punctuation, length, capitals, digits, links, repeated characters,"
        " whether it says I, you or we, and combinations of these. Vote only where the form really tells the labels apart."),
    Rubric("weighing", "evidence of several kinds with weights, a clear lead wins",
        "Weighing, for all labels. Gather evidence of different kinds (words, phrases, form, and evidence against a label),"
        " each with a weight. Add up for every label and return the best one if it leads the second clearly; otherwise None."),
)  # fmt: skip
"""Approaches of programs that speak of all labels."""

FOCUSED = (
    Rubric("sure", "sure signs, any one of which is enough",
        "Sure signs of the one label (or the few labels) named above. Words, phrases and patterns that hardly ever occur in"
        " texts of any other label, in as many forms as you can think of; any one of them is enough. Return None for everything"
        " else."),
    Rubric("together", "two weaker signs that occur together",
        "Weaker signs together, for the one label (or the few labels) named above. Two or more lists of cues, none of which is"
        " enough by itself; return the label when cues of two different lists occur in the same text, and None otherwise."),
    Rubric("apart", "cues for the label unless cues of the labels it is confused with occur",
        "What sets the one label (or the few labels) named above apart from those that it is most easily confused with. A broad"
        " list of cues for it, and for each neighbouring label a list of cues that speak against it. Return the label when its"
        " cues are there and those against it are not; otherwise None."),
)  # fmt: skip
"""Approaches of programs that speak of one label, or of a few where there are many."""

TARGETED = (
    Rubric("sure", "sure signs, and plain signs of other subjects",
        "Sure signs. Return True on words, phrases and patterns that hardly occur in texts without the label. Return False when"
        " there is none of them and the text is plainly about something else: list cues of several other subjects for this."
        " None in between."),
    Rubric("counting", "counting cues, and where they stand",
        "Counting. Count different cues of the label; one in the first line or title counts double. Return True from two points"
        " on. Return False when there is no cue at all and the first line shows another subject. Otherwise None."),
    Rubric("apart", "telling a passing mention from the subject",
        "Subject or passing mention. Look for cues of the label near words that make it the subject (actions, amounts, units,"
        " actors that belong to it). Return True on such pairs, False when cues of neighbouring labels stand there in their"
        " place and none of this label's, None otherwise."),
)  # fmt: skip
"""Approaches of programs for one label of a task where a text has any number of labels."""

RULE_BROAD = (
    Rubric("vocabulary", "many words for every label",
        "Vocabulary, for all labels. The words that texts of each label typically use, as `word` rules, with `contains` for"
        " beginnings that occur inside no other word. Many rules of weight 1, about as many for each label, so that the label"
        " with the most of its words wins."),
    Rubric("phrases", "fixed phrases and patterns, the more telling the heavier",
        "Phrases and patterns, for all labels. Fixed expressions of two to four words as `word` rules; words in sequence with"
        " small gaps, amounts, numbers, links and addresses as `regex` rules. The more telling a phrase, the larger its weight."),
    Rubric("form", "how the text is built: first words, punctuation, length, digits, capitals",
        "Form, for all labels that have one. How the text is built rather than its subject: its first words (`starts_with`),"
        " question words and what follows them, punctuation, digits, capitals (`(?-i)`), links, repeated characters, length as"
        " a pattern. Vote only where the form really tells the labels apart."),
    Rubric("weighing", "evidence of several kinds with weights, and what takes it back",
        "Weighing, for all labels. Evidence of different kinds and strength: weight 3 or 5 for what is nearly sure, 1 for a"
        " hint that needs others beside it, and `unless` wherever a neighbouring label uses the same words."),
)  # fmt: skip
"""Approaches of lists of rules that speak of all labels."""

RULE_FOCUSED = (
    Rubric("sure", "sure signs, any one of which is enough",
        "Sure signs of the one label (or the few labels) named above. Words, phrases and patterns that hardly ever occur in"
        " texts of any other label, in as many forms as you can think of; any one of them is enough."),
    Rubric("together", "two weaker signs that occur together",
        "Weaker signs together, for the one label (or the few labels) named above. Every rule has a `with`: a cue that is not"
        " enough by itself, and the cues of another kind of which one must be there too."),
    Rubric("apart", "cues for the label unless cues of the labels it is confused with occur",
        "What sets the one label (or the few labels) named above apart from those that it is most easily confused with. Broad"
        " cues for it, each with an `unless` that lists the cues of the neighbouring labels that speak against it."),
)  # fmt: skip
"""Approaches of lists that speak of one label, or of a few where there are many."""

RULE_TARGETED = (
    Rubric("sure", "sure signs, and plain signs of other subjects",
        "Sure signs. Rules for `yes` on words, phrases and patterns that hardly occur in texts without the label, weight 3."
        " Rules for `no`, weight 1, on words that show plainly that the text is about something else: several other subjects."),
    Rubric("counting", "counting cues, and where they stand",
        "Counting. Many cues of the label for `yes`, weight 1 each, 2 where the text begins with one (`starts_with`); cues of"
        " other subjects for `no` likewise. The larger sum wins."),
    Rubric("apart", "telling a passing mention from the subject",
        "Subject or passing mention. Cues of the label `with` words that make it the subject (actions, amounts, units, actors"
        " that belong to it) for `yes`; cues of neighbouring labels, `unless` this label's cues are there, for `no`."),
)  # fmt: skip
"""Approaches of lists for one label of a task where a text has any number of labels."""

SMALL_WORDS = {
    "vocabulary": "Single words that texts of each label often have in them.",
    "phrases": "Phrases of two or three words that texts of each label often have in them.",
    "form": "How texts of each label begin, and the marks, numbers, links and forms that tell the labels apart.",
    "weighing": "Rarer words and phrases that still tell the labels apart.",
    "sure": "Words and phrases that are a sure sign of the label.",
    "together": "Things, people and deeds that texts of the label speak of.",
    "apart": "Words and phrases that tell the label from the one that it is most easily confused with.",
    "counting": "Many different words that texts of the label have in them.",
}
"""What small models are told of the same approaches, by name: their lists hold words and phrases alone."""

RUBRICS = {
    ("broad", "python"): BROAD, ("focused", "python"): FOCUSED, ("targeted", "python"): TARGETED,
    ("broad", "rules"): RULE_BROAD, ("focused", "rules"): RULE_FOCUSED, ("targeted", "rules"): RULE_TARGETED,
}  # fmt: skip
"""The approaches by scope (programs that speak of all labels, of some, of one in a `multi` task) and form, in the same places."""
