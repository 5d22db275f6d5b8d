"""What the model found, told shortly."""

from __future__ import annotations

from tests.integration.ledger.books import Books, contact, lead, order

ANNA, BERT = "anna@example.com", "bert@example.com"


def remote_ids(books: Books) -> dict[str, str | None]:
    rows = books.ask("SELECT email, remote_id FROM outbox WHERE status <> 'superseded'")
    return dict(rows)


def test_a_contact_that_becomes_somebody_elses_is_no_longer_written_to(books: Books) -> None:
    books.told(
        lead("1", day=1, email=ANNA), lead("2", day=1, email=BERT), contact("71", version=1, email=ANNA)
    )
    assert remote_ids(books) == {ANNA: "71", BERT: None}
    books.do("UPDATE outbox SET accepted = desired, status = 'acknowledged' WHERE email = :email", email=ANNA)
    books.told(contact("71", version=2, email=BERT))
    assert remote_ids(books) == {ANNA: None, BERT: "71"}
    # Nobody knows what another contact of hers holds: all of it is sent.
    assert books.ask("SELECT accepted, status FROM outbox WHERE email = :email", email=ANNA) == [
        ({}, "pending")
    ]


def test_a_person_that_is_named_anew_does_not_inherit_the_contact_of_another(books: Books) -> None:
    books.told(
        lead("2", day=2, email=ANNA), lead("3", day=1, email=BERT), contact("71", version=1, email=ANNA)
    )
    assert remote_ids(books)[ANNA] == "71"
    books.told(lead("1", day=1, email=ANNA), contact("71", version=2, email=BERT))
    assert remote_ids(books) == {ANNA: None, BERT: "71"}


def test_an_order_edited_to_nothing_no_longer_counts(books: Books) -> None:
    books.told(
        lead("1", day=1, email=ANNA),
        order("1", "100.00", day=5, email=ANNA, version=1),
        order("2", "50.00", day=6, email=ANNA, version=1),
    )
    assert books.outbox()[ANNA]["orders"] == "2"
    books.told(order("1", "0.00", day=5, email=ANNA, version=2))
    assert (books.outbox()[ANNA]["orders"], books.outbox()[ANNA]["revenue"]) == ("1", "50.00")
