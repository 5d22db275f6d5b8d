"""HubSpot as a destination: contacts with stage, status, campaign, revenue and number of orders.

`hubspot_plan` decides the calls and `hubspot_answer` reads what became of each record; this module sends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import structlog

from connectors.contract import Context, Finding, Outcome, Request, Upsert
from connectors.crm import hubspot_answer as answers
from connectors.crm import hubspot_api as api
from connectors.crm import hubspot_plan as plans
from connectors.errors import ConnectorError
from connectors.http import Answer

GROUP = "leadledger"
GROUPS = f"{api.PROPERTIES}/groups"
PROPERTIES_MADE = f"{api.PROPERTIES}/batch/create"
OWN_PREFIX = "leadledger_"
NUMBERS = frozenset({"leadledger_revenue", "leadledger_orders"})
PROPERTIES_BATCH = 100
DONE = frozenset({200, 201, 207})
NEEDS_A_PERSON = ("credential", "scope")

log = structlog.get_logger(__name__)


class HubSpotContacts:
    """Writes contacts of one HubSpot account (a `connectors.contract.Destination`)."""

    batch_size = plans.BATCH_SIZE
    parallel = api.PARALLEL

    def __init__(self, options: api.Options, context: Context) -> None:
        self._options = options
        self._http = context.http(api.settings(options, writing=True))

    def preparation(self, fields: Sequence[str]) -> list[Request]:
        """The calls that make what is missing of our property group and our own properties. Reads both lists."""
        own = {name for name in fields if name.startswith(OWN_PREFIX)}
        missing = sorted(own - self._names(api.PROPERTIES)) if own else []
        if not missing:
            return []
        requests = [
            Request("POST", PROPERTIES_MADE, {"inputs": [_definition(name) for name in some]}, ())
            for some in (
                missing[at : at + PROPERTIES_BATCH] for at in range(0, len(missing), PROPERTIES_BATCH)
            )
        ]
        if GROUP not in self._names(GROUPS):
            requests.insert(0, Request("POST", GROUPS, {"name": GROUP, "label": "leadledger"}, ()))
        return requests

    def prepare(self, fields: Sequence[str]) -> None:
        """Make what is missing of our property group and our own properties.

        Raises `ConnectorError` when one cannot be made; one that another process made meanwhile will do.
        """
        for request in self.preparation(fields):
            body = dict(request.body or {})
            if request.path == PROPERTIES_MADE:
                self._make(body["inputs"])
                continue
            answer = self._http.post(request.path, body)
            if answer.status >= 400 and not _exists(answer.status, api.error_body(answer)):
                raise _cannot(f"the property group {GROUP}", answer)

    def _names(self, path: str) -> set[str]:
        return {str(one.get("name")) for one in self._http.get(path).decode(dict).get("results") or ()}

    def plan(self, batch: Sequence[Upsert]) -> list[Request]:
        """The calls that `write` would make for this batch. Does no I/O."""
        planned = plans.plan(batch, allow_backward=self._options.allow_backward)
        return [call.request() for call in planned.calls]

    def write(self, batch: Sequence[Upsert]) -> list[Outcome]:
        """Send the batch; one outcome for every upsert.

        Raises `ConnectorError` only when nothing was written at all, because the token or its rights will not
        do; what stops a later call leaves its records to the next try.
        """
        planned = plans.plan(batch, allow_backward=self._options.allow_backward)
        outcomes = {outcome.key: outcome for outcome in planned.settled}
        pending = deque(planned.calls)
        written = False
        while pending:
            call = pending.popleft()
            # A stage that could not be cleared is not set either: it would be dropped without an error.
            items = tuple(item for item in call.items if _is_open(outcomes.get(item.key)))
            if not items:
                continue
            call = plans.Call(call.action, items)
            try:
                answer = self._http.post(call.path, call.request().body)
                if answer.status in DONE:
                    outcomes.update(self._outcomes(call, answer))
                    written = True
                elif len(items) == 1:
                    outcome = answers.failed(items[0], api.error_body(answer), answer.status)
                    outcomes[outcome.key] = outcome
                else:
                    # One record is the reason: halve down to it, so that the others are written.
                    log.info("batch_refused", status=answer.status, records=len(items))
                    pending.extendleft(reversed(plans.halves(call)))
            except ConnectorError as error:
                if not written and error.kind in NEEDS_A_PERSON:
                    raise
                log.warning("batch_not_written", kind=error.kind, records=len(items))
                stopped = list(items)
                if error.kind in (*NEEDS_A_PERSON, "throttled"):
                    stopped += [item for call in pending for item in call.items]
                for item in stopped:
                    if _is_open(outcomes.get(item.key)):
                        outcomes[item.key] = answers.retried(item, str(error))
        return [outcomes[upsert.key] for upsert in batch]

    def check(self) -> list[Finding]:
        """Try the token and the scopes that writing needs, with calls that have nothing to write."""
        nothing: dict[str, Any] = {"inputs": []}
        return [
            api.tried("token", self._http, api.ACCOUNT),
            api.tried(
                "scope crm.objects.contacts.write", self._http, f"{api.CONTACTS}/batch/update", nothing
            ),
            api.tried("scope crm.schemas.contacts.write", self._http, PROPERTIES_MADE, nothing),
        ]

    def _outcomes(self, call: plans.Call, answer: Answer) -> dict[str, Outcome]:
        outcomes = answers.read(call.items, answer.decode(dict))
        return {**outcomes, **self._read_back(call, outcomes)}

    def _read_back(self, call: plans.Call, outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
        """Ask what a contact holds where the answer to a write does not show every field sent."""
        doubtful = {
            outcome.remote_id: item
            for item in call.items
            if answers.unshown(item, outcome := outcomes[item.key]) and outcome.remote_id
        }
        if not doubtful:
            return {}
        names = sorted({name for item in doubtful.values() for name in item.upsert.fields})
        body = {"inputs": [{"id": remote_id} for remote_id in doubtful], "properties": names}
        shown = self._http.post(f"{api.CONTACTS}/batch/read", body).decode(dict).get("results") or ()
        found = {str(result.get("id")): result for result in shown}
        return {
            item.key: answers.judge(item, found[remote_id])
            if remote_id in found
            else answers.retried(item, "the contact cannot be read back after the write")
            for remote_id, item in doubtful.items()
        }

    def _make(self, definitions: Sequence[dict[str, Any]]) -> None:
        answer = self._http.post(PROPERTIES_MADE, {"inputs": list(definitions)})
        if answer.status in DONE:
            for error in answer.decode(dict).get("errors") or ():
                if not _exists(0, error):
                    raise _cannot("own properties", answer, error)
        elif len(definitions) > 1:
            for definition in definitions:
                self._make([definition])
        elif not _exists(answer.status, api.error_body(answer)):
            raise _cannot(f"the property {definitions[0]['name']}", answer)


def _is_open(outcome: Outcome | None) -> bool:
    return outcome is None or outcome.status == "accepted"


def _definition(name: str) -> dict[str, Any]:
    number = name in NUMBERS
    return {
        "name": name,
        "label": name.replace("_", " "),
        "groupName": GROUP,
        "type": "number" if number else "string",
        "fieldType": "number" if number else "text",
    }


def _exists(status: int, error: Any) -> bool:
    """Whether an error says only that the thing is there already; how exactly is not settled."""
    category = str(error.get("category", ""))
    said = f"{category} {error.get('subCategory', '')} {error.get('message', '')}".lower()
    return status == 409 or category in ("CONFLICT", "OBJECT_ALREADY_EXISTS") or "already exist" in said


def _cannot(what: str, answer: Answer, error: Any = None) -> ConnectorError:
    said = api.describe(error or api.error_body(answer))
    return ConnectorError(
        "config", f"HubSpot cannot make {what}: {answer.status} {said}".strip(), status=answer.status
    )
