"""Where chat templates run. A template is code from a file: it gets neither Python nor the file system.

What templates expect besides plain Jinja is what apply_chat_template of transformers gives them, but for the clock: the
same conversation is always the same text.
"""

from __future__ import annotations

import functools
import json
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateRuntimeError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOT_GIVEN = {"tools": None, "documents": None}  # templates ask for them; rows have none
# What a template's own code may come to, beside TemplateError.
FAULTS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class TemplateFault(Exception):
    """A template that cannot be read, does what is not allowed, or fails."""


def write(source: str, variables: dict[str, Any]) -> str:
    """What the template makes of the variables. Raises TemplateFault."""
    try:
        return str(_compiled(source).render({**NOT_GIVEN, **variables}))
    except (TemplateError, *FAULTS) as error:
        raise TemplateFault(str(error)) from None


@functools.lru_cache(maxsize=4)
def _compiled(source: str) -> Any:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation])
    environment.globals["raise_exception"] = _refuse
    # Jinja's own writes for HTML.
    environment.filters["tojson"] = functools.partial(json.dumps, ensure_ascii=False)
    return environment.from_string(source)


def _refuse(reason: str) -> None:
    raise TemplateRuntimeError(reason)


class _Sandbox(ImmutableSandboxedEnvironment):
    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        """Jinja's own says nothing, and writes an empty text."""
        raise SecurityError(f"access to {attribute!r} of a {type(obj).__name__}")


class _Generation(Extension):
    """`{% generation %}` marks answers for transformers; here they are found without it."""

    tags = {"generation"}  # noqa: RUF012 - so Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
