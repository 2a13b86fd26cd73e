"""A secret as a field of pydantic's models: what ``keyholt.Secret`` tells pydantic when it asks.

- It takes a ``Secret``, text or bytes. A reference is refused: building a model asks no agent.
- As JSON, in either direction of a schema, it is a text, and it is written as stars. ``model_dump`` without
  ``mode="json"`` gives the ``Secret`` itself. A model that holds one cannot be pickled or copied deeply.
- The errors of pydantic repeat what a whole model was given: where that holds secrets as text, set
  ``hide_input_in_errors=True`` in the model's configuration.
- Only pydantic causes this to be imported, and so there is one.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic_core import CoreSchema, core_schema

from keyholt.reference import is_reference
from keyholt.secret import Secret

__all__ = ["MASK", "json_schema", "schema"]

MASK: Final = "**********"
"""What is written in place of a value, as for pydantic's own ``SecretStr``."""


def schema() -> CoreSchema:
    """How pydantic checks and writes a field."""
    return core_schema.no_info_plain_validator_function(
        _secret,
        serialization=core_schema.plain_serializer_function_ser_schema(_hidden, when_used="json"),
    )


def json_schema() -> dict[str, Any]:
    """How the field is described to others (JSON Schema, section 8.3; OpenAPI's ``password``)."""
    return {"type": "string", "format": "password", "writeOnly": True}


def _secret(value: object) -> Secret:
    """A field's secret.

    Raises:
        ValueError: it is none; pydantic puts the field's name before it.
    """
    if isinstance(value, Secret):
        return value
    if isinstance(value, str):
        if is_reference(value):
            raise ValueError("this is a reference; fetch it with keyholt.get, and give the Secret")
        return _given(_encoded(value))
    if isinstance(value, bytes | bytearray):
        return _given(bytearray(value))
    raise ValueError("a secret is given as a keyholt.Secret, text or bytes")


def _given(value: bytearray) -> Secret:
    return Secret(value, path="", version=0, created=0)


def _encoded(text: str) -> bytearray:
    try:
        return bytearray(text.encode())
    except UnicodeEncodeError:
        pass  # it holds the text: raised in here, the next error would keep it as its context
    raise ValueError("the text holds a lone surrogate, which has no form in UTF-8; give it as bytes")


def _hidden(_: Secret) -> str:
    return MASK
