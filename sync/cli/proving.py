"""Commands of the books' proof: ledger seal, heads, key, proof, consistency, export, verifier."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.engine import Connection

from sync import work
from sync.cli import output
from sync.cli.runtime import ConfigOption, Exit, FormatOption, PeriodOption, opened, wrong
from sync.ledger import bundle, encoding, heads, merkle, seal, store, tree
from sync.report import period as periods

TextOrJson = Annotated[output.Format, typer.Option("--format", "-f", help="table or json.")]


def register(app: typer.Typer) -> None:
    app.command("seal")(seal_now)
    app.command("heads")(list_heads)
    app.command("key")(key)
    app.command("proof")(proof)
    app.command("consistency")(consistency)
    app.command("export")(export)
    app.command("verifier")(verifier)


def seal_now(config: ConfigOption = None, form: TextOrJson = output.Format.table) -> None:
    """Sign a head over all that is booked now, and copy it to the witnesses. Every sync does so at its end.

    Example: leadledger ledger seal
    """
    with opened(config) as workspace:
        done = work.seal(workspace)
    if form is output.Format.json:
        output.print_json((_head(done.signed) if done.signed else {}) | {"problems": done.problems})
    elif done.signed is not None:
        _print_head(done.signed)
    elif not done.problems:
        output.line("There is nothing to seal yet: run leadledger sync first.")
    for problem in done.problems:
        output.complain(problem)
    if done.problems:
        raise typer.Exit(Exit.partial)


def list_heads(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="The last so many.")] = 20,
    config: ConfigOption = None,
    form: FormatOption = output.Format.table,
) -> None:
    """The signed heads, and where each was copied. With --format json each is as a witness keeps it.

    Examples: leadledger ledger heads   |   leadledger ledger heads -n 1 --format json
    """
    with opened(config) as workspace, workspace.engine.connect() as connection:
        found = seal.read_heads(connection, limit=limit)
        copies = seal.read_copies(connection, [signed.head.number for signed in found])
        zone = workspace.zone
    rows = [_head(signed) | {"copies": copies.get(signed.head.number, [])} for signed in found]
    if form is output.Format.json:
        output.print_json(rows)
    elif form is output.Format.csv:
        output.print_csv([{k: v for k, v in row.items() if k != "head"} for row in rows])
    else:
        output.table(
            "",
            ["head", "signed at", "entries", "root", "key", "copied to"],
            [
                [
                    signed.head.number,
                    output.local(signed.head.sealed_at, zone),
                    f"{signed.head.size:,}",
                    signed.head.root.hex()[:16] + "…",
                    signed.head.key.hex()[:8] + "…",
                    ", ".join(row["copies"]),
                ]
                for signed, row in zip(found, rows, strict=True)
            ],
            right=(0, 2),
        )


def key(config: ConfigOption = None) -> None:
    """The public key that heads are signed with, in hex: give it to the auditor by another way than the heads.

    Example: leadledger ledger key
    """
    with opened(config) as workspace:
        output.line(heads.public_bytes(workspace.signing_key()).hex())


def proof(
    entry: Annotated[int, typer.Argument(min=1, help="The number of an entry, as explain shows it.")],
    config: ConfigOption = None,
    form: TextOrJson = output.Format.table,
) -> None:
    """Prove that an entry is in the books that the last head was signed over (RFC 6962, inclusion proof).

    Example: leadledger ledger proof 8 --format json
    """
    with opened(config) as workspace, workspace.engine.connect() as connection:
        last = _last_head(connection)
        sealed = next(store.stream(connection, after=entry - 1, until=entry), None)
        if sealed is None:
            raise wrong(f"There is no entry {entry}.")
        if entry > last.head.size:
            raise wrong(
                f"Entry {entry} came after the last head ({last.head.size} entries): leadledger ledger seal."
            )
        known = encoding.canonical_bytes(sealed.fields, sealed.postings)
        hashes = tree.View(connection, last.head.size, between=store.between).inclusion(entry - 1)
    leaf = merkle.leaf_hash(known)
    holds = merkle.is_included(leaf, entry - 1, last.head.size, hashes, last.head.root)
    found = {
        "entry": known.decode(),
        "leaf": leaf.hex(),
        "index": entry - 1,
        "size": last.head.size,
        "hashes": [h.hex() for h in hashes],
        "root": last.head.root.hex(),
        "head": last.line(),
        "holds": holds,
    }
    _print_proof(found, form, f"entry {entry} is one of the {last.head.size:,} of head {last.head.number}")


def consistency(
    old: Annotated[int, typer.Argument(min=1, help="The number of a head, as ledger heads shows it.")],
    new: Annotated[int, typer.Argument(min=1, help="The number of a later one.")],
    config: ConfigOption = None,
    form: TextOrJson = output.Format.table,
) -> None:
    """Prove that the books of a later head continue those of an earlier one (RFC 6962, consistency proof).

    Example: leadledger ledger consistency 1 2
    """
    with opened(config) as workspace, workspace.engine.connect() as connection:
        first, second = (_head_at(connection, number) for number in (old, new))
        if first.head.size > second.head.size:
            raise wrong(f"Head {old} is later than head {new}: name the earlier one first.")
        hashes = tree.View(connection, second.head.size, between=store.between).consistency(first.head.size)
    holds = merkle.is_consistent(first.head.size, second.head.size, first.head.root, second.head.root, hashes)
    found = {
        "from": first.head.size,
        "to": second.head.size,
        "hashes": [h.hex() for h in hashes],
        "old": first.line(),
        "new": second.line(),
        "holds": holds,
    }
    said = f"the {second.head.size:,} entries of head {new} begin with the {first.head.size:,} of head {old}"
    _print_proof(found, form, said)


def _last_head(connection: Connection) -> heads.Signed:
    last = seal.last_head(connection)
    if last is None:
        raise wrong("Nothing is sealed yet: leadledger ledger seal signs a first head.")
    return last


def _head_at(connection: Connection, number: int) -> heads.Signed:
    found = seal.head_at(connection, number)
    if found is None:
        raise wrong(f"There is no head {number}: leadledger ledger heads lists them.")
    return found


def _print_proof(found: dict[str, Any], form: output.Format, said: str) -> None:
    if form is output.Format.json:
        output.print_json(found)
    else:
        for name, value in found.items():
            if name not in ("hashes", "holds"):
                output.line(f"{name}: {value}")
        output.line("hashes, from the leaf upwards:" if found["hashes"] else "hashes: none are needed")
        for text in found["hashes"]:
            output.line(f"  {text}")
        output.line(f"Proven: {said}." if found["holds"] else f"NOT PROVEN: that {said}.")
    if not found["holds"]:
        output.complain(
            "The proof does not lead to the root that was signed: leadledger verify names what is wrong."
        )
        raise typer.Exit(Exit.unproven)


def export(
    to: Annotated[Path, typer.Option("--bundle", help="The ZIP file to write.")],
    period: PeriodOption = None,
    config: ConfigOption = None,
) -> None:
    """Write the books into one file that an auditor checks without leadledger; a head is signed first.

    Example: leadledger ledger export --bundle books.zip
    """
    asked = _period(period)
    with opened(config) as workspace:
        done = work.seal(workspace)
        with workspace.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            try:
                found = bundle.write(connection, to, asked)
            except bundle.NothingSealed as error:
                raise wrong(str(error)) from None
            except OSError as error:
                raise wrong(f"{to} cannot be written: {error.strerror}.") from None
    for problem in done.problems:
        output.complain(problem)
    output.line(
        f"Wrote {to}: {found.entries:,} entries up to head {found.head.head.number}, "
        f"public key {found.head.head.key.hex()}"
    )
    output.note(f"To check it: leadledger ledger verifier > verify_bundle.py; python verify_bundle.py {to}")


def _period(text: str | None) -> periods.Period | None:
    try:
        return periods.parse(text) if text else None
    except ValueError as error:
        raise wrong(str(error)) from None


def verifier() -> None:
    """Print the program that checks a bundle: one file of standard Python that shares no code with leadledger.

    Example: leadledger ledger verifier > verify_bundle.py
    """
    sys.stdout.write(files("sync.ledger.verifier").joinpath("verify_bundle.py").read_text("utf-8"))


def _head(signed: heads.Signed) -> dict[str, Any]:
    head = signed.head
    return {
        "number": head.number,
        "sealed_at": heads.stamp(head.sealed_at),
        "size": head.size,
        "root": head.root.hex(),
        "key": head.key.hex(),
        "head": signed.line(),
    }


def _print_head(signed: heads.Signed) -> None:
    head = signed.head
    output.line(f"Head {head.number}, signed {heads.stamp(head.sealed_at)}: {head.size:,} entries")
    output.line(f"  root {head.root.hex()}")
    output.line(f"  public key {head.key.hex()}")
