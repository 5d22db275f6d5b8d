"""The Merkle tree of RFC 6962 (and RFC 9162) with SHA-256: roots, proofs and their verification. Pure.

A leaf is the SHA-256 of 0x00 and its bytes, a node that of 0x01 and its two children; the left child of a tree of
n leaves has the largest power of two below n. A node that is a whole power of two is *perfect* and never changes
again: it is named (level, index), level 0 being the leaves.

The perfect nodes are kept in *tiles* of sixteen neighbours, of every fourth level only; the levels between them
are hashed again when they are asked for. `Frontier` holds what is right of the last whole tile of each level: at
most fifteen hashes a level, from which the tree grows and its root follows.

>>> frontier = Frontier()
>>> tiles = frontier.add([leaf_hash(b"first"), leaf_hash(b"second")])
>>> frontier.root() == node_hash(leaf_hash(b"first"), leaf_hash(b"second"))
True
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

EMPTY_ROOT = hashlib.sha256(b"").digest()
STEP = 4  # levels between two levels of tiles
WIDTH = 1 << STEP  # hashes of a tile

Node = tuple[int, int]  # level, index
Range = tuple[int, int]  # the leaves [first, end) below one node, perfect or not


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """The node above `hashes`, which are neighbours of one level and a power of two in number."""
    sha256, row = hashlib.sha256, hashes
    while len(row) > 1:
        row = [sha256(b"\x01" + row[i] + row[i + 1]).digest() for i in range(0, len(row), 2)]
    return row[0]


def fold(peaks: Sequence[bytes]) -> bytes:
    """The root over perfect nodes from left to right, each smaller than the one before."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


@dataclass(frozen=True, slots=True)
class Tile:
    """Sixteen neighbours of level ``4 * height``: those from ``16 * index`` on."""

    height: int
    index: int
    hashes: tuple[bytes, ...]


@dataclass(slots=True)
class Frontier:
    """The right edge of a tree: `loose[height]` are the hashes that fill no tile yet."""

    loose: list[list[bytes]] = field(default_factory=list)
    tiles: list[int] = field(default_factory=list)  # whole ones of each height

    @classmethod
    def of(cls, size: int, loose: Sequence[Sequence[bytes]]) -> Frontier:
        """The edge of a tree of `size` leaves, with its loose hashes from the leaves upwards."""
        return cls([list(hashes) for hashes in loose], [size >> STEP * (h + 1) for h in range(len(loose))])

    @property
    def size(self) -> int:
        return (len(self.loose[0]) + self.tiles[0] * WIDTH) if self.loose else 0

    def add(self, leaves: Sequence[bytes]) -> list[Tile]:
        """Append leaf hashes; returns the tiles that they fill, of every height."""
        filled: list[Tile] = []
        height, rising = 0, list(leaves)
        while rising:
            if height == len(self.loose):
                self.loose.append([])
                self.tiles.append(0)
            row = self.loose[height] + rising
            whole = len(row) - len(row) % WIDTH
            rising = []
            for first in range(0, whole, WIDTH):
                tile = Tile(height, self.tiles[height], tuple(row[first : first + WIDTH]))
                self.tiles[height] += 1
                filled.append(tile)
                rising.append(perfect_root(tile.hashes))
            self.loose[height] = row[whole:]
            height += 1
        return filled

    def root(self) -> bytes:
        peaks: list[bytes] = []
        for hashes in reversed(self.loose):
            taken = 0
            for bit in reversed(range(STEP)):
                if len(hashes) >> bit & 1:
                    peaks.append(perfect_root(hashes[taken : taken + (1 << bit)]))
                    taken += 1 << bit
        return fold(peaks)


def loose_tiles(size: int) -> list[tuple[int, range]]:
    """Where the loose hashes of a tree of `size` leaves come from: for each height above 0, the tiles of the
    height below (by index) whose roots they are."""
    found = []
    height = 1
    while size >> STEP * height:
        end = size >> STEP * height
        found.append((height - 1, range(end - end % WIDTH, end)))
        height += 1
    return found


def split(size: int) -> int:
    """The largest power of two below `size`, which is at least 2."""
    return 1 << (size - 1).bit_length() - 1


def perfect_nodes(range_: Range) -> list[Node]:
    """The perfect nodes, from left to right, whose `fold` is the node over `range_`, a subtree of a tree."""
    first, end = range_
    nodes: list[Node] = []
    while first < end:
        level = (end - first).bit_length() - 1
        nodes.append((level, first >> level))
        first += 1 << level
    return nodes


def inclusion_path(index: int, size: int) -> list[Range]:
    """The subtrees whose nodes prove that leaf `index` is in the tree of `size` leaves, from the leaf upwards
    (RFC 6962, 2.1.1)."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path: list[Range] = []
    first, end = 0, size
    while end - first > 1:
        middle = first + split(end - first)
        if index < middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((first, middle))
            first = middle
    return path[::-1]


def consistency_path(old: int, new: int) -> list[Range]:
    """The subtrees whose nodes prove that the tree of `old` leaves is a prefix of that of `new` leaves
    (RFC 6962, 2.1.2). Nothing has to be proven of an empty tree, or of the same one."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {old} leaves cannot be a prefix of one of {new}")
    if old in {0, new}:
        return []
    path: list[Range] = []
    first, end, whole = 0, new, True  # whole: the subtree at `first` is one of the old tree from its start
    while old != end:
        middle = first + split(end - first)
        if old <= middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((first, middle))
            first, whole = middle, False
    if not whole:
        path.append((first, end))
    return path[::-1]


def proof(path: Sequence[Range], nodes: Mapping[Node, bytes]) -> list[bytes]:
    """The hashes of a path, from the perfect nodes below it."""
    return [fold([nodes[node] for node in perfect_nodes(range_)]) for range_ in path]


def root_from_inclusion(leaf: bytes, index: int, size: int, hashes: Sequence[bytes]) -> bytes | None:
    """The root that an inclusion proof leads to; None when the proof does not fit (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return None
    place, last, root = index, size - 1, leaf
    for sibling in hashes:
        if last == 0:
            return None
        if place & 1 or place == last:
            root = node_hash(sibling, root)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        place, last = place >> 1, last >> 1
    return root if last == 0 else None


def is_included(leaf: bytes, index: int, size: int, hashes: Sequence[bytes], root: bytes) -> bool:
    return root_from_inclusion(leaf, index, size, hashes) == root


def is_consistent(old: int, new: int, old_root: bytes, new_root: bytes, hashes: Sequence[bytes]) -> bool:
    """Whether `hashes` prove that the tree with `old_root` is a prefix of that with `new_root`
    (RFC 9162, 2.1.4.2)."""
    if old == 0:
        return new >= 0 and not hashes and old_root == EMPTY_ROOT
    if old == new:
        return not hashes and old_root == new_root
    if old > new or not hashes:
        return False
    rest = list(hashes)
    if old & (old - 1) == 0:
        rest.insert(0, old_root)
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = rest[0]
    for sibling in rest[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and before == old_root and after == new_root
