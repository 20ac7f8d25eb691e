#!/usr/bin/env python3
"""Reminders for booked appointments, from Berth's events stream. Python's standard library and a Redis are all it needs.

    reminders.py follow redis://127.0.0.1:6379 'berth:{1}:events'            keeps the plan of reminders; run as many as you like
    reminders.py send   redis://127.0.0.1:6379 'berth:{1}:events' [WHEN]     prints what is due at WHEN (default now); run it hourly

Events come at least once, and a consumer that takes over from a dead one may see an old event of a booking after a newer one. So
the plan keeps the newest `sequence` that it has seen of each booking, and applies and acknowledges in one step.
"""
import json, os, socket, sys, time
from datetime import datetime, timedelta, timezone
from urllib.parse import urlparse

GROUP, BEFORE = "reminders", timedelta(hours=24)
CLAIM_AFTER_MS = int(os.environ.get("CLAIM_AFTER_MS", "30000"))  # an event read so long ago and not acknowledged: its reader is dead

APPLY = """
if (redis.call('HGET', KEYS[2], ARGV[1]) or '') < ARGV[2] then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
  if ARGV[3] == '' then redis.call('HDEL', KEYS[3], ARGV[1]) else redis.call('HSET', KEYS[3], ARGV[1], ARGV[3]) end
end
return redis.call('XACK', KEYS[1], ARGV[4], ARGV[5])
"""


class Redis:
    """A connection that speaks just enough of the protocol."""

    def __init__(self, url):
        url = urlparse(url)
        self.file = socket.create_connection((url.hostname, url.port or 6379), timeout=30).makefile("rwb")
        if url.password:
            self(*filter(None, ("AUTH", url.username, url.password)))
        if url.path.strip("/"):
            self("SELECT", url.path.strip("/"))

    def __call__(self, *args):
        parts = [str(arg).encode() for arg in args]
        self.file.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        self.file.flush()
        return self.reply()

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis has gone")
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"-":
            raise RuntimeError(rest)
        if kind == b"+":
            return rest
        if kind == b":" or int(rest) < 0:
            return int(rest) if kind == b":" else None
        if kind == b"$":
            return self.file.read(int(rest) + 2)[:-2].decode()
        return [self.reply() for _ in range(int(rest))]


def apply(redis, stream, entry, event):
    """One event into the plan, and acknowledged."""
    kind = event["type"].removeprefix("io.berth.").removesuffix(".v1")
    data, plan = event["data"], ""
    if kind in ("booking.booked", "booking.confirmed"):
        plan = json.dumps({"party": data["party"], "centre": data["centre"], "start": data["start"]})
    elif kind == "gap":
        print(f"entries {data['first_entry']} to {data['last_entry']} were lost: compare with the export", file=sys.stderr)
    redis("EVAL", APPLY, 3, stream, f"{stream}:seen", f"{stream}:plan", event["subject"], event["sequence"], plan, GROUP, entry)


def follow(redis, stream):
    try:
        redis("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
    except RuntimeError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise
    me = f"{socket.gethostname()}-{os.getpid()}"
    while True:
        # What a dead consumer has read and not acknowledged, then what nobody has read.
        entries = redis("XAUTOCLAIM", stream, GROUP, me, CLAIM_AFTER_MS, "0", "COUNT", 100)[1]
        if not entries:
            read = redis("XREADGROUP", "GROUP", GROUP, me, "COUNT", 100, "BLOCK", 1000, "STREAMS", stream, ">")
            entries = read[0][1] if read else []
        for entry, fields in entries:
            apply(redis, stream, entry, json.loads(fields[1]))


def send(redis, stream, when):
    plan = redis("HGETALL", f"{stream}:plan")
    for booking, reminder in zip(plan[::2], map(json.loads, plan[1::2])):
        if when <= datetime.fromisoformat(reminder["start"]) <= when + BEFORE:
            # Here you would look up how to reach the party, and send. A crash before the next line sends it once more.
            print(f"remind {reminder['party']} of {booking}: {reminder['start']} at {reminder['centre']}", flush=True)
            redis("HDEL", f"{stream}:plan", booking)


if __name__ == "__main__":
    command, url, stream, *when = sys.argv[1:]
    if command == "send":
        send(Redis(url), stream, datetime.fromisoformat(when[0]) if when else datetime.now(timezone.utc))
    while command == "follow":
        try:
            follow(Redis(url), stream)
        except (OSError, RuntimeError) as error:
            print(f"Redis: {error}; again in a second", file=sys.stderr)
            time.sleep(1)
