"""YAML that remembers where everything stood, so that a fault can be said with its line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

Path = tuple[str | int, ...]


class BadYaml(Exception):
    """The text is not YAML, or not what a declaration may use of it; it starts with the line."""


@dataclass(frozen=True)
class Document:
    value: Any
    lines: Mapping[Path, int]

    def line_of(self, path: Sequence[str | int]) -> int:
        """Of the nearest place that is there: a missing field has the line of what lacks it."""
        known = tuple(path)
        while known not in self.lines:
            known = known[:-1]
        return self.lines[known]


def read_yaml(text: str) -> Document:
    """Raises BadYaml also for a key that is there twice, of which YAML would keep the last."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise BadYaml(f"{line}: not valid YAML: {exc.problem}") from None
    except (yaml.YAMLError, ValueError) as exc:
        raise BadYaml(f"1: not valid YAML: {str(exc).splitlines()[0]}") from None
    lines: dict[Path, int] = {(): 1}
    if node is not None:
        _walk(node, (), lines)
    return Document(value, lines)


def _walk(node: yaml.Node, path: Path, lines: dict[Path, int]) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*path, index), lines)
    if isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            here, line = (*path, str(key.value)), key.start_mark.line + 1
            if here in lines:
                raise BadYaml(f"{line}: {key.value!r} is there twice, first in line {lines[here]}")
            lines[here] = line
            _walk(item, here, lines)
