"""The witness by e-mail: the auditor gets the newest head, at most so often."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import urlsplit

from sync.config_ledger import Witness as Declared
from sync.ledger import heads
from sync.ledger.witness_error import WitnessError

WITHIN_S = 30
_TEXT = """\
The books "{books}" of leadledger were sealed.

Head {number}, signed {sealed_at}: {size} entries
Root of the Merkle tree: {root}
Public key: {key}

Keep the attached line. Whoever later has the books can prove with it that nothing before this moment moved:
leadledger verify --since FILE, or python verify_bundle.py BUNDLE.zip --head FILE
"""


@dataclass(frozen=True)
class Mail:
    """`smtp` is the server's address: ``smtps://`` speaks TLS from the start, ``smtp://`` as soon as the server
    offers it. A password is sent over TLS only."""

    name: str
    books: str
    to: str
    sender: str
    smtp: str
    user: str | None
    password: str | None
    every: timedelta
    path: Path | None = None

    @classmethod
    def of(cls, declared: Declared, books: str) -> Mail:
        return cls(
            name=declared.name,
            books=books,
            to=declared.email or "",
            sender=declared.sender or "",
            smtp=declared.smtp or "",
            user=declared.user or declared.sender,
            password=declared.password.get_secret_value() if declared.password else None,
            every=timedelta(hours=declared.every_hours),
        )

    def message(self, signed: heads.Signed) -> EmailMessage:
        head = signed.head
        made = EmailMessage()
        made["From"], made["To"] = self.sender, self.to
        made["Subject"] = f"Head {head.number} of the books {self.books}: {head.size} entries"
        made["Message-ID"] = f"<{signed.hash.hex()}@{self.sender.partition('@')[2]}>"
        made.set_content(
            _TEXT.format(
                books=self.books,
                number=head.number,
                sealed_at=heads.stamp(head.sealed_at),
                size=head.size,
                root=head.root.hex(),
                key=head.key.hex(),
            )
        )
        made.add_attachment(f"{signed.line()}\n", filename=f"head-{head.number:08d}.jsonl", cte="base64")
        return made

    def keep(self, signed: heads.Signed) -> None:
        address = urlsplit(self.smtp)
        host = address.hostname or ""
        try:
            with self._connected(host, address.port, tls=address.scheme == "smtps") as server:
                server.send_message(self.message(signed))
        except smtplib.SMTPAuthenticationError:
            raise WitnessError(
                f"{host} refuses the password", "set user and password of the witness"
            ) from None
        except smtplib.SMTPResponseException as error:
            raise WitnessError(f"{host} answers {error.smtp_code}", "ask who runs the mail server") from None
        except smtplib.SMTPRecipientsRefused:
            raise WitnessError(f"{host} takes no mail for the address", "set email of the witness") from None
        except (smtplib.SMTPException, OSError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise WitnessError(f"{host} does not take mail: {why}", "set smtp of the witness") from None

    def _connected(self, host: str, port: int | None, *, tls: bool) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if tls:
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, port or 465, timeout=WITHIN_S, context=context)
        else:
            server = smtplib.SMTP(host, port or 587, timeout=WITHIN_S)
        try:
            server.ehlo()
            if not tls and server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
                tls = True
            if self.password is not None:
                _need_tls(host, tls=tls)
                server.login(self.user or "", self.password)
        except BaseException:
            server.close()
            raise
        return server


def _need_tls(host: str, *, tls: bool) -> None:
    if not tls:
        raise WitnessError(f"{host} offers no TLS, so no password is sent", "use smtps://")
