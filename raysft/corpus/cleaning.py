"""What a clean text is. Where each character of a text stands once it is clean: corpus/offsets.py."""

from __future__ import annotations

import re
import unicodedata

# All that stands for the end of a line: Windows, old Mac, page and column breaks, NEL and the two Unicode separators.
LINE_END = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
# Control characters (category Cc) but tab and line ends, and the byte order mark wherever it stands.
REMOVED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")
REPLACED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")  # any character of the two above
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: a bad byte, or half an emoji in JSON


def clean(text: str) -> str:
    """Canonical Unicode (NFC), no control characters, line ends as one `\\n`, no space around.

    clean(clean(x)) == clean(x): normal forms are closed under cutting (Unicode Standard Annex 15, section 9).
    """
    if not text.isprintable() and REPLACED.search(text):  # two quick looks: most texts have none of these
        text = REMOVED.sub("", LINE_END.sub("\n", text))
    return text.strip() if text.isascii() else unicodedata.normalize("NFC", text).strip()


def readable(text: str) -> str:
    """The text with halves of characters replaced by U+FFFD, so that every file and page can show it."""
    return SURROGATE.sub("\ufffd", text)


def same_text(text: str) -> str:
    """The key under which two texts count as the same: case and spacing aside."""
    return " ".join(text.casefold().split())
