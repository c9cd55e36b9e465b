"""The names that expressions may use, each of one kind, and what they read of them."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MAPS: Final = frozenset({"map of text", "map of lists of text", "map of any"})
OPEN: Final = MAPS | {"list of any", "any"}
"""The kinds whose values have parts."""

Read = tuple[str, ...]
"""A name, then keys: what an expression can read."""


class Vocabulary:
    """Names such as `request.method`, and their kinds: the words of `cel.TYPES`."""

    def __init__(
        self,
        kinds: Mapping[str, str],
        elsewhere: Mapping[str, str],
        *,
        without_nul: frozenset[str] = frozenset(),
    ) -> None:
        """`elsewhere` has names of other programs, of one or two words, and ours instead.

        `without_nul` are the names in whose values there cannot be a NUL.
        """
        self.kinds = dict(kinds)
        self._elsewhere = dict(elsewhere)
        self.without_nul = without_nul
        self._roots = frozenset(name.partition(".")[0] for name in kinds)

    def unknown(self, name: str) -> str:
        """Say that there is no such name, and which one is near."""
        words = name.split(".")
        for known in (".".join(words[:2]), words[0]):
            if known in self._elsewhere:
                return f"there is no {name}; write {self._elsewhere[known]}"
        if name in self._roots:
            members = (known for known in self.kinds if known.startswith(f"{name}."))
            # Most often it is `request.headers.x-id`, which is `request.headers.x - id`.
            dash = 'a key with a dash stands in brackets: headers["x-id"]'
            return f"{name} is no value, its members are: {', '.join(members)}; {dash}"
        near = difflib.get_close_matches(name, self.kinds, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"there is no {name}{hint}"

    def is_root(self, word: str) -> bool:
        """Tell whether a name of the vocabulary begins with this word."""
        return word in self._roots

    def part(self, path: Read, key: str) -> Read:
        """Return what is read by asking `path` for a key that it may well not have.

        "No such key" and "no map at all" can give different values then. Only a name that
        always is a map tells nothing else: of all others the whole is read.
        """
        if len(path) == 1 and self.kinds[path[0]] in MAPS:
            return (*path, key)
        return path
