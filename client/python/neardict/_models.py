"""Pydantic models as objects of JSON types, and back, by their own means."""

import functools
import logging
from typing import Any

logger = logging.getLogger(__name__)

# Classes of which it was said that stored models have fields that they ignore: once is enough for each.
_told: set[type] = set()


def dump(model: Any) -> dict[str, Any]:
    """Returns the JSON types of a model."""
    fields: dict[str, Any] = model.model_dump(mode="json")
    return fields


def load(cls: Any, data: dict[str, Any]) -> Any:
    """Makes a model; says so in the log, once for each class, if that leaves fields out."""
    model = cls.model_validate(data)
    if cls not in _told and not _known(cls).issuperset(data) and not _decides_itself(cls):
        _told.add(cls)
        logger.warning(
            "stored values have fields that the model %r ignores, and storing it again will lose them: "
            "set its model_config to extra='allow', or register decode for the older form",
            cls.__qualname__,
        )
    return model


@functools.cache
def _known(cls: Any) -> frozenset[str]:
    fields = cls.model_fields
    return frozenset(fields) | {field.alias for field in fields.values() if field.alias}


def _decides_itself(cls: Any) -> bool:
    """Returns whether the class says what becomes of other fields, by its configuration or by a validator."""
    decorators = getattr(cls, "__pydantic_decorators__", None)
    return "extra" in cls.model_config or bool(getattr(decorators, "model_validators", None))
