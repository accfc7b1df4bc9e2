"""What the parameters of a classifier, or of a tagger, will be, from the names and shapes of its base's weights alone.

transformers adds a head to the base and leaves out what a classifier does not need; this is that knowledge for the
usual encoders, so that a plan can be made without loading torch. Others are planned when the model has been built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raysft.model.recipe import NORM, Tensor

Shapes = Mapping[str, tuple[int, ...]]
LINEAR = {"classifier.weight": "CH", "classifier.bias": "C"}
TWO_LAYERS = {
    "classifier.dense.weight": "HH", "classifier.dense.bias": "H",
    "classifier.out_proj.weight": "CH", "classifier.out_proj.bias": "C",
}  # fmt: skip
POOLER = {"pooler.dense.weight": "HH", "pooler.dense.bias": "H"}
BUFFERS = ("position_ids", "token_type_ids")
RENAMED = {"gamma": "weight", "beta": "bias"}  # of norms, in old checkpoints


@dataclass(frozen=True)
class Architecture:
    """prefix: what the base's names begin with; head, filled: shapes by letter (H hidden, C classes)."""

    prefix: str
    head: Mapping[str, str]
    filled: Mapping[str, str]  # of the base, drawn anew where a checkpoint has not got it
    unused: str = ""  # of the base, left out


_BERT = Architecture("bert", LINEAR, {f"bert.{name}": shape for name, shape in POOLER.items()})
_ROBERTA = Architecture("roberta", TWO_LAYERS, {}, unused="roberta.pooler.")
_DEBERTA = Architecture("deberta", {**POOLER, **LINEAR}, {})
ARCHITECTURES = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "deberta": _DEBERTA,
    "deberta-v2": _DEBERTA,
    "distilbert": Architecture("distilbert", {"pre_classifier.weight": "HH", "pre_classifier.bias": "H", **LINEAR}, {}),
    "electra": Architecture("electra", TWO_LAYERS, {}),
    "mpnet": Architecture("mpnet", TWO_LAYERS, {}, unused="mpnet.pooler."),
}


def classifier_tensors(config: Mapping[str, Any], shapes: Shapes, classes: int) -> tuple[list[Tensor], str] | None:
    """The parameters of the classifier over this base, and the prefix of the base; None where it is not known.

    config: config.json of the base. shapes: its tensors by name.
    """
    known = ARCHITECTURES.get(str(config.get("model_type")))
    return None if known is None else _tensors(known, config, shapes, classes)


def tagger_tensors(config: Mapping[str, Any], shapes: Shapes, tags: int) -> tuple[list[Tensor], str] | None:
    """The same of the tagger of tokens over this base: it has no pooler, and a head of one layer."""
    known = ARCHITECTURES.get(str(config.get("model_type")))
    if known is None:
        return None
    plain = Architecture(known.prefix, LINEAR, {}, unused=f"{known.prefix}.pooler.")
    return _tensors(plain, config, shapes, tags)


def _tensors(known: Architecture, config: Mapping[str, Any], shapes: Shapes, classes: int) -> tuple[list[Tensor], str]:
    sides = {"H": int(config.get("hidden_size", config.get("dim", 0))), "C": classes}

    def drawn(letters: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
        return {name: tuple(sides[letter] for letter in shape) for name, shape in letters.items()}

    found = {**drawn(known.filled), **_of_base(shapes, known), **drawn(known.head)}
    return [Tensor(name, shape, norm=is_norm(name)) for name, shape in found.items()], known.prefix


def renamed(name: str) -> str:
    """A parameter as it is called today."""
    layer, dot, leaf = name.rpartition(".")
    return f"{layer}{dot}{RENAMED.get(leaf, leaf)}"


def is_norm(name: str) -> bool:
    """Whether a parameter belongs to a normalisation layer, by the name of its layer."""
    return bool(NORM.search(name.rpartition(".")[0].rpartition(".")[2]))


def _of_base(shapes: Shapes, known: Architecture) -> dict[str, tuple[int, ...]]:
    """The base's own tensors, named as in the classifier: a checkpoint of the bare base has no prefix."""
    prefix = known.prefix + "."
    bare = not any(name.startswith(prefix) for name in shapes)
    found = {}
    for name, shape in shapes.items():
        leaf = name.rpartition(".")[2]
        whole = f"{prefix if bare else ''}{renamed(name)}"
        left_out = leaf in BUFFERS or (known.unused and whole.startswith(known.unused))
        if whole.startswith(prefix) and not left_out:
            found[whole] = shape
    return found
