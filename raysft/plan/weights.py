"""Which weights a run trains and which it keeps, and what they take of a worker's memory."""

from __future__ import annotations

from dataclasses import dataclass

from raysft.config.sections import TrainSection

WEIGHT_BYTES = 4  # float32, trained or kept
GRADIENT_BYTES = 4
# Of each optimizer, a parameter, and in words. A row and a column of a matrix are next to nothing.
OPTIMIZER_BYTES = {"adamw": (8, "two AdamW moments"), "adamw_8bit": (2, "two moments in 8 bits"), "adafactor": (0, "")}
AVERAGE_BYTES = 4


@dataclass(frozen=True)
class Weights:
    """Parameters of a model by what becomes of them."""

    trained: int  # in some epoch
    kept: int = 0  # frozen, or under adapters: no gradient and no optimizer state
    four_bits: int = 0  # of those kept
    at_most: str = ""  # why fewer train than said here; "" where the numbers are exact

    def bytes(self, train: TrainSection) -> int:
        """Memory of the weights and of all that training adds to them."""
        kept = (self.kept - self.four_bits) * WEIGHT_BYTES + self.four_bits // 2
        return self.trained * _trained_bytes(train)[0] + kept

    def words(self, train: TrainSection) -> str:
        """The same as arithmetic, for people."""
        each, held = _trained_bytes(train)
        if not self.kept:
            return f"{each} bytes a parameter ({held}{'; ' if self.at_most else ''}{self.at_most})"
        words = f"{each} bytes for each of {self.trained:,} parameters that train ({held})"
        if whole := self.kept - self.four_bits:
            words += f" + {WEIGHT_BYTES} for each of {whole:,} that do not"
        return f"{words} + half a byte for each of {self.four_bits:,} in 4 bits" if self.four_bits else words


def _trained_bytes(train: TrainSection) -> tuple[int, str]:
    """Bytes of a parameter that trains, and what they hold."""
    optimizer, words = OPTIMIZER_BYTES[train.optimizer]
    average = AVERAGE_BYTES if train.average else 0
    held = ["weights", "gradients", words, "average" if average else ""]
    return WEIGHT_BYTES + GRADIENT_BYTES + optimizer + average, ", ".join(filter(None, held))
