"""What schemathesis must be told in code: NDJSON bodies, and which parties and slots there are."""

import json
import os
import urllib.request

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx, value):
    return json.dumps(value).encode() + b"\n"


@schemathesis.serializer("application/toml")
def toml(ctx, value):
    # As it is where it is text, as an example is; whatever else is made up is no programme.
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


@schemathesis.deserializer("application/fhir+ndjson")
@schemathesis.deserializer("application/x-ndjson")
def lines(ctx, response):
    # The document has the schema of one line, so one line stands for all; the project's own tests read every one.
    text = response.content.decode()
    return json.loads(text.split("\n")[0])


def free_slots():
    with urllib.request.urlopen(os.environ["BERTH_URL"] + "/v1/availability?district=395&pool=dose1&available=true") as answer:
        found = json.load(answer)
    return [slot["slot"] for centre in found["centres"] for session in centre["sessions"] for slot in session["slots"]]


SLOTS = free_slots()
TURN = iter(range(1_000_000_000))


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """Every other well-made hold or booking is for a party and a slot that exist, so that the links from it lead on."""
    name = case.operation.definition.raw.get("operationId")
    if name not in ("hold", "book") or not isinstance(case.body, dict):
        return
    if case.meta is None or case.meta.generation.mode != schemathesis.GenerationMode.POSITIVE:
        return
    turn = next(TURN)
    if turn % 2 == 0:
        # The demo has a thousand parties.
        case.body = {"claims": [{"party": f"p1.{turn // 2 % 1000}", "slot": SLOTS[turn % len(SLOTS)], "dose": 1}]}
