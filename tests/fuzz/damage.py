"""Damaged files, drawn from a seed: bits, spans and ends of bytes, values and fields of JSON."""

import copy
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from resnet_keras.errors import InputError

FUZZ = os.environ.get("FUZZ", "3")
CASES = int(FUZZ) if FUZZ.isdecimal() else 0  # of every file; conftest.py refuses other values
COUNTS: Counter[str] = Counter()  # "tried" and "failed", which conftest.py prints at the end

OTHER_VALUES = (
    *(None, True, False, -1, 0, 3, 1.5, 10**30, float("inf"), float("nan")),
    *("", "abc", "0", "\udcff", "a\nb", [], {}, [1], ["a"], [[]], {"a": 1}),
)


def survive(
    content: bytes, use: Callable[[bytes], object], seed: int = 0, cases: int = CASES
) -> None:
    """Fails if `use` raises anything but an InputError of any damaged content.

    Args:
        content: of a whole file.
        use: is given damaged contents; writes them where they belong, and reads them.
        seed: of the damage. A case's number in the message makes the same damage again.
        cases: how many.
    """
    failures = []
    for case in range(cases):
        damaged = damage(content, np.random.default_rng((seed, case)))
        COUNTS["tried"] += 1
        try:
            use(damaged)
        except InputError:
            pass
        except Exception as error:
            failures.append(f"case {case}: {type(error).__name__}: {error!s:.200}")
    COUNTS["failed"] += len(failures)
    assert not failures, "\n".join([f"{len(failures)} of {cases} cases", *failures[:10]])


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Other content than it was: of JSON, half of the time, still JSON."""
    kinds: list[Callable[..., bytes]] = [_flip, _truncate, _cut, _repeat]
    try:
        told = json.loads(content)
    except ValueError:
        pass
    else:
        if rng.random() < 0.5:
            return _change(told, rng)
        kinds.append(_nest)
    return kinds[rng.integers(len(kinds))](content, rng)


def _flip(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for at in rng.integers(len(changed), size=rng.integers(1, 4)):
        changed[at] ^= 1 << rng.integers(8)
    return bytes(changed)


def _truncate(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(len(content))]


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    start = rng.integers(len(content))
    return content[:start] + content[start + rng.integers(1, 40) :]


def _repeat(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(rng.integers(len(content), size=2))
    return content[:end] + content[start:]


def _nest(content: bytes, rng: np.random.Generator) -> bytes:
    at = rng.integers(len(content))
    return content[:at] + b"[" * 100_000 + content[at:]


def _change(told: Any, rng: np.random.Generator) -> bytes:
    """Another value, no value, or one more field somewhere."""
    changed = copy.deepcopy(told)
    places = list(_places(changed))
    if not places:
        return json.dumps(OTHER_VALUES[rng.integers(len(OTHER_VALUES))]).encode()
    parent, key = places[rng.integers(len(places))]
    kind = rng.integers(4)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[f"{key}x"] = parent.pop(key)
    else:
        parent[key] = OTHER_VALUES[rng.integers(len(OTHER_VALUES))]
    return json.dumps(changed).encode()


def _places(told: Any) -> Iterator[tuple[Any, Any]]:
    keys = told if isinstance(told, dict) else range(len(told)) if isinstance(told, list) else ()
    for key in keys:
        yield told, key
        yield from _places(told[key])
