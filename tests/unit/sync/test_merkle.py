"""The Merkle tree against the vectors that Certificate Transparency publishes, and against the RFC's own
recursive definition for trees of any size."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.ledger import merkle

# The leaves and roots of Certificate Transparency's reference tests, by size of the tree.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAF_0 = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
LEAF_1 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
LEAF_4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
NODE_01 = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
NODE_23 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
NODE_45 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
NODE_67 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
NODE_0123 = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
NODE_4567 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
INCLUSION = [  # index, size, proof
    (0, 1, []),
    (0, 8, [LEAF_1, NODE_23, NODE_4567]),
    (5, 8, [LEAF_4, NODE_67, NODE_0123]),
    (2, 3, [NODE_01]),
    (1, 5, [LEAF_0, NODE_23, LEAF_4]),
]
CONSISTENCY = [  # old size, new size, proof
    (1, 1, []),
    (1, 8, [LEAF_1, NODE_23, NODE_4567]),
    (6, 8, [NODE_45, NODE_67, NODE_0123]),
    (2, 5, [NODE_23, LEAF_4]),
]


# The definition of the RFC, word for word and slow.


def mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = largest_power_below(len(leaves))
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def largest_power_below(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = largest_power_below(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], known: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if known else [mth(leaves)]
    k = largest_power_below(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], known), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


# Ours, over perfect nodes only, as they are kept.


def nodes_of(leaves: list[bytes]) -> dict[merkle.Node, bytes]:
    row = [merkle.leaf_hash(leaf) for leaf in leaves]
    found, level = {}, 0
    while row:
        found |= {(level, index): hash_ for index, hash_ in enumerate(row)}
        row = [merkle.node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        level += 1
    return found


def included(index: int, leaves: list[bytes]) -> list[bytes]:
    return merkle.proof(merkle.inclusion_path(index, len(leaves)), nodes_of(leaves))


def consistent(old: int, leaves: list[bytes]) -> list[bytes]:
    return merkle.proof(merkle.consistency_path(old, len(leaves)), nodes_of(leaves))


def root(leaves: list[bytes]) -> bytes:
    frontier = merkle.Frontier()
    frontier.add([merkle.leaf_hash(leaf) for leaf in leaves])
    return frontier.root()


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    assert root(LEAVES[:size]).hex() == ROOTS[size]
    assert mth(LEAVES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSION)
def test_published_inclusion_proofs(index: int, size: int, proof: list[str]) -> None:
    assert [h.hex() for h in included(index, LEAVES[:size])] == proof
    leaf, hashes = merkle.leaf_hash(LEAVES[index]), [bytes.fromhex(h) for h in proof]
    assert merkle.is_included(leaf, index, size, hashes, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old", "new", "proof"), CONSISTENCY)
def test_published_consistency_proofs(old: int, new: int, proof: list[str]) -> None:
    assert [h.hex() for h in consistent(old, LEAVES[:new])] == proof
    roots = bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new])
    assert merkle.is_consistent(old, new, *roots, [bytes.fromhex(h) for h in proof])


sizes = st.integers(min_value=1, max_value=600)


def some(size: int) -> list[bytes]:
    return [b"%d" % number for number in range(size)]


@given(size=st.integers(min_value=0, max_value=600), pieces=st.lists(st.integers(0, 80), max_size=12))
def test_a_tree_that_grows_in_any_pieces_has_the_root_of_the_definition(size: int, pieces: list[int]) -> None:
    leaves = some(size)
    frontier, done = merkle.Frontier(), 0
    tiles: dict[tuple[int, int], merkle.Tile] = {}
    for piece in [*pieces, size]:
        part = leaves[done : done + piece]
        for tile in frontier.add([merkle.leaf_hash(leaf) for leaf in part]):
            assert (tile.height, tile.index) not in tiles, "a tile is filled once"
            tiles[tile.height, tile.index] = tile
        done += len(part)
        assert frontier.size == done
        assert frontier.root() == mth(leaves[:done])
    # What is kept is enough to go on from any time later.
    loose = [[merkle.leaf_hash(leaf) for leaf in leaves[size - size % merkle.WIDTH :]]]
    for height, indexes in merkle.loose_tiles(size):
        loose.append([merkle.perfect_root(tiles[height, index].hashes) for index in indexes])
    again = merkle.Frontier.of(size, loose)
    assert (again.size, again.root()) == (size, frontier.root())
    more = [merkle.leaf_hash(leaf) for leaf in some(700)[size:]]
    assert again.add(more) == frontier.add(more)
    assert again.root() == mth(some(700))


@given(data=st.data(), size=sizes)
def test_proofs_are_those_of_the_definition(data: st.DataObject, size: int) -> None:
    leaves = some(size)
    index = data.draw(st.integers(0, size - 1))
    assert included(index, leaves) == path(index, leaves)
    old = data.draw(st.integers(1, size))
    assert consistent(old, leaves) == subproof(old, leaves, True)
    assert merkle.is_included(
        merkle.leaf_hash(leaves[index]), index, size, included(index, leaves), mth(leaves)
    )
    assert merkle.is_consistent(old, size, mth(leaves[:old]), mth(leaves), consistent(old, leaves))


@given(data=st.data(), size=sizes)
def test_a_proof_that_was_altered_proves_nothing(data: st.DataObject, size: int) -> None:
    leaves = some(size)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    whole, leaf = mth(leaves), merkle.leaf_hash(leaves[index])
    inclusion, consistency = included(index, leaves), consistent(old, leaves)
    for altered in _altered(data, inclusion):
        assert not merkle.is_included(leaf, index, size, altered, whole)
    assert not merkle.is_included(merkle.leaf_hash(b"other"), index, size, inclusion, whole)
    if size > 1:
        other = (index + 1) % size
        assert not merkle.is_included(leaf, other, size, inclusion, whole)
    for altered in _altered(data, consistency):
        assert not merkle.is_consistent(old, size, mth(leaves[:old]), whole, altered)
    assert not merkle.is_consistent(old, size, mth([*leaves[: old - 1], b"other"]), whole, consistency)
    assert not merkle.is_consistent(old, size, mth(leaves[:old]), mth([*leaves[1:], b"other"]), consistency)


def _altered(data: st.DataObject, proof: list[bytes]) -> list[list[bytes]]:
    found = [[*proof, bytes(32)], [bytes(32), *proof]]
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        found += [proof[:at] + proof[at + 1 :], [*proof[:at], bytes(32), *proof[at + 1 :]]]
    return found


def test_nothing_is_proven_of_a_leaf_or_a_tree_that_is_not_there() -> None:
    for index, size in ((-1, 3), (3, 3), (0, 0)):
        with pytest.raises(ValueError, match="has no leaf"):
            merkle.inclusion_path(index, size)
        assert merkle.root_from_inclusion(bytes(32), index, size, []) is None
    with pytest.raises(ValueError, match="cannot be a prefix"):
        merkle.consistency_path(4, 3)
    assert not merkle.is_consistent(4, 3, bytes(32), bytes(32), [bytes(32)])
    assert merkle.is_consistent(0, 3, merkle.EMPTY_ROOT, bytes(32), [])
