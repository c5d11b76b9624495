"""What is wrong with a declaration, in words for whoever wrote it: the place, and what would be right there."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

Path = tuple[str | int, ...]


class Misplaced(ValueError):
    """A fault that is found by looking at several fields, and belongs to one: `path` leads there."""

    def __init__(self, path: Sequence[str | int], message: str) -> None:
        super().__init__(message)
        self.path = tuple(path)


def explained(exc: ValidationError, model: type[BaseModel]) -> list[tuple[Path, str]]:
    """Each fault with the path it is at."""
    return list(_faults(exc, model))


def _faults(exc: ValidationError, model: type[BaseModel]) -> Iterator[tuple[Path, str]]:
    for fault in exc.errors(include_url=False):
        path: Path = tuple(fault["loc"])
        cause = fault.get("ctx", {}).get("error")
        if isinstance(cause, Misplaced):
            path = (*path, *cause.path)
        where = ".".join(map(str, path))
        said = str(cause) if isinstance(cause, ValueError) else fault["msg"]
        if fault["type"] == "extra_forbidden":
            said = _unknown(str(path[-1]), _fields_at(model, path[:-1]))
        elif fault["type"] == "missing":
            said = "is missing"
        yield path, f"{where}: {said}" if where else said


def _unknown(name: str, fields: Sequence[str]) -> str:
    near = get_close_matches(name, fields, 1, cutoff=0.75)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"is not known here; {hint}expected one of {', '.join(fields)}"


def _fields_at(model: type[BaseModel], path: Path) -> list[str]:
    """The fields of the model that this place holds: a step that is no field is a key of a mapping."""
    found: type[BaseModel] = model
    for step in path:
        field = found.model_fields.get(str(step))
        if field is not None:
            found = _model_in(field.annotation) or found
    return list(found.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    parts = (_model_in(part) for part in getattr(annotation, "__args__", ()))
    return next((part for part in parts if part is not None), None)
