"""A server of the real binary with a dose on record, and what it says of it over HTTP. It keeps no people: who the dose was given to is told to it."""

import datetime
import hashlib
import json
import os
import secrets
import socket
import subprocess
import urllib.error
import urllib.request

INDIA = datetime.timezone(datetime.timedelta(hours=5, minutes=30))


def free_address():
    """Where nobody listens. Cards say where their keys are, so it is known before the server starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Server:
    """With the keys of this directory, and the programme of this file; stopped at the end of `with`."""

    def __init__(self, berth, folder, address, programme, keys):
        self.url, self.folder = f"http://{address}", folder
        self.secrets = {role: secrets.token_urlsafe(24) for role in ("admin", "platform")}
        roles = "".join(
            f"[[keys]]\nrole = '{role}'\nname = '{role}'\nsha256 = '{hashlib.sha256(secret.encode()).hexdigest()}'\n"
            for role, secret in self.secrets.items()
        )
        config = os.path.join(folder, "berth.toml")
        with open(config, "w") as file:
            file.write(
                f"listen = '{address}'\npublic_url = '{self.url}'\ndata_dir = '{folder}/data'\nprogramme = '{programme}'\n"
                f"segment_mib = 5\nbuffer_mib = 4\n[certificates]\nkeys_dir = '{keys}'\n{roles}"
            )
        self.log = open(os.path.join(folder, "log"), "w")
        self.process = subprocess.Popen((berth, "serve", "--config", config), stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.asked = 0

    def __enter__(self):
        told = self.process.stdout.readline()
        if not told.startswith("berth listening on"):
            self.__exit__()
            raise SystemExit(f"the server does not start: {open(self.log.name).read()}")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()

    def ask(self, path, body=None, role=None, media="application/json"):
        """What the server answers, as bytes. What it refuses ends the check."""
        self.asked += 1
        request = urllib.request.Request(self.url + path, method="GET" if body is None else "POST")
        if role:
            request.add_header("Authorization", f"Bearer {self.secrets[role]}")
        if body is not None:
            request.data = body if isinstance(body, bytes) else json.dumps(body).encode()
            request.add_header("Content-Type", media)
            request.add_header("Idempotency-Key", f"check-{self.asked}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{path}: {error.code} {error.read().decode()}")

    def told(self, *question, **more):
        return json.loads(self.ask(*question, **more))

    def give(self):
        """A dose to somebody who comes to the door today; the id of its certificate."""
        day = datetime.datetime.now(INDIA).date()
        windows = [{"start": "00:00", "end": "23:59", "pools": {"open": 9}}]
        for path, lines in (
            (
                "/v1/regions",
                [
                    {"id": "27", "kind": "state", "name": "Maharashtra"},
                    {"id": "363", "kind": "district", "name": "Pune", "parent": "27"},
                ],
            ),
            ("/v1/centres", [{"id": "c1", "name": "PHC Shivajinagar", "district": "363", "pincode": "411005"}]),
            ("/v1/sessions", [{"id": "s1", "centre": "c1", "date": str(day), "product": "covishield", "windows": windows}]),
        ):
            text = "\n".join(map(json.dumps, lines)).encode()
            self.ask(path, text, role="admin", media="application/x-ndjson")
        self.ask("/v1/parties", {"count": 1, "birth_year": 1979}, role="admin")
        slot = self.told("/v1/sessions/s1")["slots"][0]["slot"]
        came = self.told("/v1/walk-ins", {"party": "p1.0", "slot": slot, "dose": 1}, role="platform")
        self.ask(f"/v1/bookings/{came['booking']}/complete", {"batch": "4120Z001"}, role="platform")
        return self.standing()

    def standing(self):
        """The id of the certificate that stands."""
        listed = self.told("/v1/parties/p1.0/certificates", role="platform")
        return listed["certificates"][0]["certificate"]
