"""Which faults come, in which order: a seed makes the same list on every machine.

Pure.  Kinds of faults are cards of a deck, the frequent ones with several: it is played to the end before it is mixed
anew, so that even a short campaign meets each kind.  Some rounds have one fault, which must keep its bound; in the
others the next fault begins while the first one lasts.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

PAIRS: Final = 0.3
"""The share of rounds with a second fault."""
TRIPLES: Final = 0.08
"""And of those with a third."""


@dataclass(frozen=True, slots=True)
class Card:
    """A kind of fault, as far as the plan needs to know it."""

    kind: str
    weight: int = 1
    """How often in a deck."""
    hold_s: tuple[float, float] = (0.3, 1.5)
    """How long it lasts before it is mended: at least, at most."""
    victims: tuple[str, ...] = ("forger",)
    """Whom it may strike: forger, standby, any; or pool, as a whole."""
    group: str = ""
    """Never beside another of its group."""
    alone: bool = False
    """Never beside any other."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault to come."""

    kind: str
    victim: str
    at_s: float
    """From the beginning of its round."""
    hold_s: float
    dice: int
    """The seed of what else is left to chance in it."""


@dataclass(frozen=True, slots=True)
class Round:
    """Faults upon a pool that is at rest; they begin in this order."""

    number: int
    """From 1 on."""
    faults: tuple[Planned, ...]
    rest_s: float
    """After the recovery, before the next one."""


class Deck:
    """Cards without an end."""

    def __init__(self, cards: Sequence[Card], rng: random.Random) -> None:
        """Raises ValueError: there is no card."""
        self._all = [card for card in cards for _ in range(card.weight)]
        if not self._all:
            raise ValueError("a deck without a card")
        self._rng = rng
        self._left: list[Card] = []

    def draw(self, fits: Callable[[Card], bool] = lambda card: True) -> Card | None:
        """The next one that fits; those before it stay on top.  None: of what is left in this deck none does."""
        if not self._left:
            self._left = list(self._all)
            self._rng.shuffle(self._left)
        for place in range(len(self._left) - 1, -1, -1):
            if fits(self._left[place]):
                return self._left.pop(place)
        return None


def rounds(
    cards: Sequence[Card], seed: int, part: str, scripts: Sequence[Card] = (), script_share: float = 0.0
) -> Iterator[Round]:
    """Rounds without an end, for one part of the campaign.

    scripts: faults that play a round by themselves, from a deck of their own, in this share of the rounds.
    """
    rng = random.Random(f"{seed}/{part}")
    deck = Deck(cards, rng)
    played = Deck(scripts, rng) if scripts else None
    for number in itertools.count(1):
        first = (played if played is not None and rng.random() < script_share else deck).draw()
        assert first is not None
        drawn, faults = [first], [_planned(first, 0.0, rng)]
        for share in (PAIRS, TRIPLES / PAIRS):
            # The dice are thrown in any case: what one kind may do does not move all that follows.
            another = rng.random() < share
            if not another or first.alone:
                break
            card = deck.draw(partial(_goes_with, drawn))
            if card is None:
                break
            drawn.append(card)
            last = faults[-1]
            faults.append(_planned(card, last.at_s + rng.uniform(0.05, 0.9) * last.hold_s, rng))
        yield Round(number, tuple(faults), round(rng.uniform(0.2, 1.2), 3))


def _goes_with(drawn: Sequence[Card], card: Card) -> bool:
    if card.alone or card.kind in {each.kind for each in drawn}:
        return False
    return not card.group or card.group not in {each.group for each in drawn}


def _planned(card: Card, at_s: float, rng: random.Random) -> Planned:
    return Planned(
        card.kind,
        rng.choice(card.victims),
        round(at_s, 3),
        round(rng.uniform(*card.hold_s), 3),
        rng.randrange(1 << 32),
    )


@dataclass(frozen=True, slots=True)
class Act:
    """The beginning of a fault, or its end."""

    at_s: float
    fault: int
    """Its place in the round."""
    begins: bool


def acts(planned: Round) -> list[Act]:
    """What is to be done in a round, in order: each fault ends after it began."""
    found = []
    for place, fault in enumerate(planned.faults):
        found += [Act(fault.at_s, place, True), Act(fault.at_s + fault.hold_s, place, False)]
    return sorted(found, key=lambda act: (act.at_s, not act.begins, act.fault))
