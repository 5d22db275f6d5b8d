"""The Merkle tree over the entries, as it is kept in the database: leaf n - 1 is entry n.

The whole tiles (`merkle.Tile`) are stored in the transaction that books the entries, and never change. What
fills no tile yet (at most fifteen hashes a level) is made again: of the entries themselves, and of the tiles below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync.ledger import merkle
from sync.store import db
from sync.store.tables import seal_tiles

HASH_BYTES = 32
CHUNK = 5_000
CACHED = 10_000

Between = Callable[[Connection, int, int], Iterable[bytes]]
"""Yields the leaves of the entries ``after < id <= until``."""


class Damaged(Exception):
    """The stored tree does not fit the entries: somebody changed the database outside leadledger."""


def grow(connection: Connection, before: int, leaves: Sequence[bytes], *, between: Between) -> None:
    """Append the leaves of entries that were just booked, after `before` entries. The caller holds the journal's
    lock. Entries whose leaves are not in the tree yet (from before there was one) come first.

    Raises `Damaged` when the tree holds more entries than the journal had.
    """
    whole = stored(connection)
    if whole > before:
        raise Damaged(
            f"the journal had {before} entries, but its tree was grown over {whole}: entries were removed outside "
            "leadledger. leadledger verify says what is missing; restore the database from a backup."
        )
    frontier = _load(connection, before)
    for piece in _pieces(connection, frontier.size, before, between):
        _store(connection, frontier.add(piece))
    _store(connection, frontier.add(leaves))


def frontier_of(connection: Connection, size: int, *, between: Between) -> merkle.Frontier:
    """The right edge of the tree of the first `size` entries."""
    frontier = _load(connection, size)
    for piece in _pieces(connection, frontier.size, size, between):
        frontier.add(piece)
    return frontier


def _pieces(connection: Connection, first: int, end: int, between: Between) -> Iterator[list[bytes]]:
    piece: list[bytes] = []
    if first < end:
        for leaf in between(connection, first, end):
            piece.append(leaf)
            if len(piece) == CHUNK:
                yield piece
                piece = []
    yield piece


def _load(connection: Connection, size: int) -> merkle.Frontier:
    """The edge of the largest tree of whole stored tiles that has at most `size` leaves."""
    whole = stored(connection)
    kept = min(whole, size - size % merkle.WIDTH)
    below = merkle.loose_tiles(kept)
    tiles = read_tiles(connection, [(height, index) for height, row in below for index in row])
    loose: list[list[bytes]] = [[]] if kept else []
    loose += [[merkle.perfect_root(tiles[height, index]) for index in row] for height, row in below]
    return merkle.Frontier.of(kept, loose)


def stored(connection: Connection) -> int:
    """How many leaves the stored tiles hold."""
    last = connection.execute(
        sa.select(sa.func.max(seal_tiles.c.number)).where(seal_tiles.c.height == 0)
    ).scalar()
    return 0 if last is None else (int(last) + 1) * merkle.WIDTH


def _store(connection: Connection, tiles: Sequence[merkle.Tile]) -> None:
    if tiles:
        db.copy_rows(
            connection,
            seal_tiles.name,
            [c.name for c in seal_tiles.c],
            ((tile.height, tile.index, b"".join(tile.hashes)) for tile in tiles),
        )


_TILES = sa.text(
    """
    SELECT height, number, hashes
      FROM seal_tiles JOIN unnest(CAST(:heights AS smallint[]), CAST(:numbers AS bigint[])) AS n (height, number)
     USING (height, number)
    """
)


def find_tiles(
    connection: Connection, wanted: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], tuple[bytes, ...]]:
    """Those of the tiles (height, number) that are stored, by name."""
    rows = connection.execute(
        _TILES, {"heights": [height for height, _ in wanted], "numbers": [number for _, number in wanted]}
    )
    return {(row.height, row.number): hashes_of(bytes(row.hashes)) for row in rows}


def read_tiles(
    connection: Connection, wanted: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], tuple[bytes, ...]]:
    """The same; raises `Damaged` when one is missing."""
    found = find_tiles(connection, wanted) if wanted else {}
    for height, number in wanted:
        if len(found.get((height, number), ())) != merkle.WIDTH:
            raise Damaged(
                f"tile {number} of height {height} of the tree is not there as it was written: "
                "the database was changed outside leadledger."
            )
    return found


def hashes_of(joined: bytes) -> tuple[bytes, ...]:
    return tuple(joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES))


class View:
    """The tree of the first `size` entries, read as far as proofs need it."""

    def __init__(self, connection: Connection, size: int, *, between: Between) -> None:
        self.size = size
        self._connection = connection
        self._between = between
        self._frontier = frontier_of(connection, size, between=between)
        self._stored = stored(connection)
        self._tiles: dict[tuple[int, int], tuple[bytes, ...]] = {}

    def root(self) -> bytes:
        return self._frontier.root()

    def inclusion(self, index: int) -> list[bytes]:
        """The proof that leaf `index` is in this tree."""
        return self._proof(merkle.inclusion_path(index, self.size))

    def consistency(self, old: int) -> list[bytes]:
        """The proof that the tree of the first `old` entries is a prefix of this one."""
        return self._proof(merkle.consistency_path(old, self.size))

    def _proof(self, path: Sequence[merkle.Range]) -> list[bytes]:
        places = {node: _place(node) for range_ in path for node in merkle.perfect_nodes(range_)}
        whole = {(h, n) for h, n, _, _ in places.values() if n < self._frontier.tiles[h]}
        self._read(whole)
        nodes = {}
        for node, (height, number, first, count) in places.items():
            row = self._tiles[height, number] if (height, number) in whole else self._frontier.loose[height]
            nodes[node] = merkle.perfect_root(row[first : first + count])
        return merkle.proof(path, nodes)

    def _read(self, wanted: set[tuple[int, int]]) -> None:
        if len(self._tiles) > CACHED:
            self._tiles = {}
        new = wanted - self._tiles.keys()
        # A journal from before there was a tree has none until the next entry is booked.
        unmade = {(h, n) for h, n in new if (n + 1) << merkle.STEP * (h + 1) > self._stored}
        self._tiles |= read_tiles(self._connection, sorted(new - unmade))
        self._tiles |= {(h, n): _made(self._connection, h, n, self._between) for h, n in unmade}


def _place(node: merkle.Node) -> tuple[int, int, int, int]:
    """Where a perfect node's hashes are: height and number of the tile, the first in it and how many."""
    level, index = node
    height, above = divmod(level, merkle.STEP)
    first = index << above
    return height, first // merkle.WIDTH, first % merkle.WIDTH, 1 << above


def _made(connection: Connection, height: int, number: int, between: Between) -> tuple[bytes, ...]:
    span = 1 << merkle.STEP * height
    first = number * merkle.WIDTH * span
    leaves = list(between(connection, first, first + merkle.WIDTH * span))
    return tuple(merkle.perfect_root(leaves[at : at + span]) for at in range(0, len(leaves), span))
