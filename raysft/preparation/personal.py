"""Personal data in the corpus: told of in every row, acted on in training rows only."""

from __future__ import annotations

from typing import Any

import numpy as np

from raysft.audit.finding import EXAMPLES, Finding
from raysft.audit.personal import KINDS, PersonalCounts, personal_examples, personal_finding
from raysft.audit.repeats import TRAIN
from raysft.preparation.books import Books, Found
from raysft.preparation.features import PERSONAL, whole_row
from raysft.preparation.rowstore import RowStore

Array = np.ndarray[Any, Any]


def check_personal(store: RowStore, books: Books, action: str) -> Finding:
    """Rows with an e-mail address, a phone or a card number; only training rows are ever left out for it."""
    alive = books.alive
    emails, phones, cards = (store.numbers(name).astype(np.uint8) * alive for name in PERSONAL)
    holding = np.flatnonzero(emails | phones | cards)
    some = holding[:EXAMPLES]
    whole = list(map(whole_row, store.texts(some), store.values("label", some)))
    examples = personal_examples(whole, store.where(some), (emails[some], phones[some], cards[some]))
    finding = personal_finding(PersonalCounts.of((emails[alive], phones[alive], cards[alive])), examples, action)
    mine = store.origin[holding] == TRAIN
    books.report(_held(holding[~mine], emails, phones, cards))
    books.apply(_held(holding[mine], emails, phones, cards), action)
    return finding


def _held(rows: Array, *counts: Array) -> Found:
    """What some rows hold, as kinds and numbers: never the words themselves."""
    each = zip(*(count[rows].tolist() for count in counts), strict=True)
    details = tuple(
        ", ".join(f"{kind} {number}" for kind, number in zip(KINDS, numbers, strict=True) if number) for numbers in each
    )
    return Found("personal_data", rows, np.full(len(rows), -1), details)
