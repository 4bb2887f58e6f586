"""Refuses numbers that collide in a set or as keys of a dict: each would take as long to add as all before it.

The hash of a number in Python is its remainder, so that an attacker can choose numbers, UUIDs and decimals with one
hash. Ten thousand UUIDs in a `set[UUID]` would keep a process busy for seconds. The hashes of texts are secret.
"""

import decimal
import uuid
from collections import defaultdict
from typing import Any, Final

from msgspec import inspect

from crew.signatures.annotations import is_pydantic, nodes_of

FEW: Final = 32  # values with one hash that are accepted; sets with no more members are not looked at
_SETS: Final = (inspect.SetType, inspect.FrozenSetType)
_HARMLESS: Final = (inspect.StrType, inspect.BoolType, inspect.NoneType, inspect.EnumType, inspect.LiteralType)


class Collisions(Exception):
    """Members of a set or keys of a dict collide."""


def are_possible(annotation: Any) -> bool:
    """Whether values of `annotation` have sets or dicts of numbers; a model of pydantic may have some."""
    for node in nodes_of(annotation):
        if isinstance(node, inspect.CustomType) and is_pydantic(node.cls):
            return True
        if isinstance(node, _SETS) and not isinstance(node.item_type, _HARMLESS):
            return True
        if isinstance(node, inspect.DictType) and not isinstance(node.key_type, _HARMLESS):
            return True
    return False


def check(value: Any) -> None:
    """Raise Collisions if an array or object in the decoded `value` has too many members that could collide."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            _check_members(one.keys())
            waiting.extend(one.values())
        elif isinstance(one, list | tuple):
            _check_members(one)
            waiting.extend(one)


def _check_members(members: Any) -> None:
    if len(members) <= FEW:
        return
    by_hash: defaultdict[int, list[Any]] = defaultdict(list)
    for one in members:
        by_hash[_hash(one)].append(one)
    for found in by_hash.values():
        if len(found) > FEW and len(set(map(repr, found))) > FEW:  # equal members do not collide
            raise Collisions("the members of an array or object in it collide: they may be an attack on this process")


def _hash(value: Any) -> int:
    """The hash of what msgspec may read in `value`."""
    if isinstance(value, str):
        return hash(_number(value))
    if isinstance(value, list | tuple):
        return hash(tuple(map(_hash, value)))
    return hash(tuple(map(_hash, value.values()))) if isinstance(value, dict) else hash(value)


def _number(text: str) -> Any:
    """The UUID or the decimal in `text`; else the text."""
    try:
        return uuid.UUID(text)
    except ValueError:
        pass
    try:
        number = decimal.Decimal(text)
    except decimal.InvalidOperation:
        return text
    return number if number.is_finite() else text
