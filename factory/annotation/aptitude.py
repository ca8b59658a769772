"""What a model is good for, said before money is spent: from its answers on some texts of the user's own. Pure.

Nobody knows the right labels of these texts. What can be known is whether the model says the same when the labels stand in
another order, whether it says more than an encoder that knows their descriptions alone, and whether it is right on seeds, where
there are any.
"""

from __future__ import annotations

from dataclasses import dataclass

SURE, DOUBTFUL = 0.6, 0.4
"""Agreement of labels with themselves, beyond chance, from which they are worth their price, and below which they are not."""

ENCODER = 0.2
"""Agreement with the encoder's zero-shot, beyond chance, below which one of the two is wrong, and nobody knows which."""

FEWEST_SEEDS = 8
"""Seeds from which being right on them outweighs agreement."""

_LEANING = 0.9
_READ = 0.75


@dataclass(frozen=True)
class Read:
    """How many answers of a kind could be used, and what became of the others.

    Attributes:
        asked, read: Answers.
        refused, looped, cut: Of the others: refused, repeating themselves, cut off. An answer may be looped and read.
    """

    asked: int
    read: int
    refused: int = 0
    looped: int = 0
    cut: int = 0

    @property
    def words(self) -> str:
        """For a person."""
        rest = {"refused": self.refused, "looped": self.looped, "cut off": self.cut}
        told = "".join(f", {count} {what}" for what, count in rest.items() if count)
        return f"{self.read} of {self.asked} read{told}"


@dataclass(frozen=True)
class Aptitude:
    """What was found.

    Attributes:
        labels, programs: How many answers could be read.
        itself: Agreement of the labels with those under another order of the labels, beyond chance (kappa), -1 to 1.
        encoder: Agreement of the labels with the encoder's zero-shot, likewise; None without an encoder.
        shares: Label to the share of texts that got it.
        seeds: Seeds whose label the model gave, and how many were asked; none by default.
        encoder_seeds: Seeds whose label the encoder's zero-shot gave.
        votes: Agreement of the programs' votes with the labels, beyond chance, where both speak; None where no program speaks.
        covered: Share of the texts on which some program votes.
    """

    labels: Read
    programs: Read
    itself: float
    encoder: float | None
    shares: dict[str, float]
    seeds: tuple[int, int] = (0, 0)
    encoder_seeds: int = 0
    votes: float | None = None
    covered: float = 0.0

    @property
    def labels_are(self) -> str:
        """`good`, `doubtful` or `no good`."""
        right, of = self.seeds
        if self.labels.read < _READ * self.labels.asked or max(self.shares.values(), default=1.0) > _LEANING:
            return "no good"
        proven = of >= FEWEST_SEEDS
        if (proven and right <= self.encoder_seeds) or self.itself < DOUBTFUL:
            return "no good"
        apart = not proven and self.encoder is not None and self.encoder < ENCODER
        return "good" if self.itself >= SURE and not apart else "doubtful"

    @property
    def programs_are(self) -> str:
        """`good`, `doubtful` or `no good`: programs are judged by labels, so they are at most as good as these."""
        if self.programs.read < _READ * self.programs.asked or self.votes is None or self.votes <= 0.0:
            return "no good"
        return "good" if self.labels_are == "good" and self.votes >= DOUBTFUL else "doubtful"

    @property
    def sentence(self) -> str:
        """One sentence: what the model is good for."""
        kinds = {"labels": self.labels_are, "programs": self.programs_are}
        parts = [
            f"{how} for {' and '.join(names)}"
            for how in ("good", "doubtful", "no good") if (names := [kind for kind, said in kinds.items() if said == how])
        ]  # fmt: skip
        advice = "" if set(kinds.values()) == {"good"} else ": compare with a larger one before you buy many answers"
        return f"on your texts this model is {', '.join(parts)}{advice}"


def looped(text: str) -> bool:
    """Whether an answer repeats itself: most of its lines, or of the items of its lists, are the same few.

    Example:
        >>> looped('["win", "free", "win", "win", "win", "win", "win", "win"]'), looped("one, two, three")
        (True, False)
    """
    parts = text.split("}") if text.count("{") > 2 else text.replace("\n", ",").split(",")
    items = [part for part in (part.strip(' \t\n{}[]",') for part in parts) if part]
    return len(items) >= 8 and len(set(items)) < 0.5 * len(items)
