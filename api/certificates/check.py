"""Certificates of each kind, issued by the real binary's command line and by its server, shown to verifiers that are not ours.

    check.py BERTH PROGRAMME NODE_FOLDER

Each must take the good one and refuse a tampered one and one of a wrong key; and `berth certificate verify` must say the same of each.
The statements of a Verifiable Credential are written from its shape, so many random ones are shown, with every character that needs care.
"""

import http.server
import json
import os
import random
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True

from served import Server, free_address

BERTH, PROGRAMME, NODE_FOLDER = sys.argv[1:]
HERE = os.path.dirname(os.path.abspath(__file__))
RANDOM_CREDENTIALS = 200
KINDS = ["w3c", "eu_dcc", "smart_health_card"]
checks = 0


def run(*command, status=0, cwd=None):
    ended = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60)
    if ended.returncode != status:
        sys.exit(f"{' '.join(command)}\nended with {ended.returncode}, not {status}:\n{ended.stdout}{ended.stderr}")
    return ended.stdout.rstrip("\n")


def holds(what, found, wanted):
    global checks
    if found != wanted:
        sys.exit(f"{what}: {found!r}, and not {wanted!r}")
    checks += 1


def outside(*question):
    return run(sys.executable, os.path.join(HERE, "outside.py"), *question).split("\n")[-1]


def card(*question):
    return run("node", os.path.join(HERE, "card.cjs"), *question, cwd=NODE_FOLDER).split("\n")[-1]


def image(*question):
    ended = subprocess.run((BERTH,) + question, capture_output=True, timeout=60)
    if ended.returncode != 0:
        sys.exit(f"{' '.join(question)}: {ended.stderr.decode()}")
    return ended.stdout


def image_of(path):
    read = subprocess.run(("zbarimg", "--quiet", "--raw", "--oneshot", "-Sbinary", path), capture_output=True, timeout=60)
    if read.returncode != 0:
        sys.exit(f"zbar reads no code: {read.stderr.decode()}")
    return read.stdout


def tells(path, said):
    """The paper of a certificate has what it is of, as text that can be copied and read aloud."""
    dose = lambda dose: [f"{dose['number']}/2", dose["given_on"], dose["batch"], dose["facility"]["name"]]
    wanted = [said["holder"]["name"], said["holder"]["born"], said["id"]] + sum(map(dose, said["doses"]), [])
    found = "".join(run("pdftotext", path, "-").split())
    holds(f"what {os.path.basename(path)} does not tell", [text for text in wanted if "".join(text.split()) not in found], [])


def raster(path):
    """An SVG as PNG, by resvg."""
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_path=path, width=1200, background="#ffffff"))


def ours(path, keys, status, code, *more):
    told = json.loads(run(BERTH, "certificate", "verify", path, "--keys", keys, "--json", *more, status=status))
    holds(f"berth certificate verify {os.path.basename(path)}", told.get("code", "valid"), code)


def claims(**holder):
    holder = {"name": "Asha Bharti", "born": "1979-12-31", "sex": "female", **holder}
    place = {"name": "PHC Shivajinagar", "district": "Pune", "state": "Maharashtra", "pincode": "411005"}
    doses = [
        {"product": "covishield", "number": n, "given_on": f"2021-0{n}-20", "batch": f"4120Z00{n}", "facility": place}
        for n in (1, 2)
    ]
    return {"id": "TESTCERTIFICATE00001", "holder": holder, "doses": doses}


def random_claims(chance):
    letters = "aZ 9'\"\\/<>{}&%@#^`|~.,-_:;éßØ中भारती\u200d\u0301\u2028\u00a0\ufffd\U0001f489"

    def text(least):
        return "x" * least + "".join(chance.choice(letters) for _ in range(chance.randrange(24)))

    said = claims(name=text(1), born=chance.choice(["1950", "2004-02-29"]))
    for name in ("reference", "sex", "document", "nationality", "district", "state", "pincode"):
        if chance.random() < 0.7:
            said["holder"][name] = text(0)
    said["doses"][-1]["facility"] = {"name": text(0), "district": text(0)}
    said["doses"][-1]["vaccinator"] = text(0)
    del said["id"]
    return said


class Served(http.server.BaseHTTPRequestHandler):
    """The key set of an issuer of SMART Health Cards, as it says at its address."""

    keys = ""

    def do_GET(self):
        there = self.path == "/.well-known/jwks.json"
        self.send_response(200 if there else 404)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()
        self.wfile.write(Served.keys.encode() if there else b"")

    def log_message(self, *_):
        pass


def served(folder):
    """The same of a server, from a dose on record, with the keys and lists that it publishes itself."""
    os.mkdir(folder)

    def written(name, content):
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    address = free_address()
    text = open(PROGRAMME).read().replace('uri = "https://www.mohfw.gov.in/"', f'uri = "http://{address}"')
    text = text.replace('kinds = ["w3c", "eu_dcc"]', f"kinds = {json.dumps(KINDS)}")
    programme, keys = written("programme.toml", text.encode()), os.path.join(folder, "keys")
    for kind in KINDS:
        run(BERTH, "certificate", "keygen", "--keys", keys, "--kind", kind, "--programme", programme)
    holder = {"holder": claims()["holder"]}
    with Server(BERTH, folder, address, programme, keys) as server:
        first = server.give()

        def made(kind, rest=""):
            return server.ask(f"/v1/certificates/{server.standing()}{rest}?kind={kind}", holder, role="platform")

        def judged(text):
            told = server.told("/v1/certificates/verify", {"certificate": text})
            return "valid" if told["valid"] else told["reason"]

        trusted = written("trusted.json", server.ask("/.well-known/certificates/keys.json"))
        signers = written("signers.json", server.ask("/.well-known/certificates/eu-signers.json"))
        texts = {kind: json.loads(made(kind))["text"] for kind in KINDS}
        files = {kind: written(kind, text.encode() + b"\n") for kind, text in texts.items()}
        tampered = {
            "eu_dcc": outside("tamper-eu", files["eu_dcc"]),
            "w3c": texts["w3c"].replace("Asha Bharti", "Usha Bharti"),
            "smart_health_card": card("tamper", files["smart_health_card"]),
        }
        changed = {kind: written(f"{kind}-tampered", text.encode() + b"\n") for kind, text in tampered.items()}
        # The verifier of cards fetches the keys from the server itself.
        for paths, eu, w3c, cards in ((files, "accepted", "1", "accepted"), (changed, "refused", "0", "refused")):
            holds("an EU certificate of a server", outside("eu", paths["eu_dcc"], signers, signers), eu)
            holds("a credential of a server", outside("w3c", paths["w3c"]), w3c)
            holds("a card of a server", card("verify", paths["smart_health_card"]), cards)
        for kind in KINDS:
            pictures = {"png": made(kind, "/qr.png")}
            pictures["svg"] = raster(written("code.svg", made(kind, "/qr.svg")))
            paper = written("paper.pdf", made(kind, "/paper.pdf"))
            run("pdftoppm", "-r", "200", "-png", "-singlefile", paper, paper.removesuffix(".pdf"))
            pictures["paper"] = open(os.path.join(folder, "paper.png"), "rb").read()
            for picture in pictures.values():
                ours(written("scanned", image_of(written("picture.png", picture))), trusted, 0, "valid")
            holds(f"the server of its {kind}", judged(texts[kind]), "valid")
            holds(f"the server of a tampered {kind}", judged(tampered[kind]), "bad_signature")
            ours(changed[kind], trusted, 1, "bad_signature")

        # Ended: by both lists that are published, and by the server; its next is good by them.
        lists = {"none": written("revoked-before.json", server.ask("/.well-known/certificates/revoked.json"))}
        server.ask(f"/v1/certificates/{first}/revoke", {"reason": "person_corrected"}, role="platform")
        kid = server.told("/.well-known/jwks.json")["keys"][0]["kid"]
        lists["revoked"] = written("revoked.json", server.ask("/.well-known/certificates/revoked.json"))
        lists["cards"] = written("crl.json", server.ask(f"/.well-known/crl/{kid}.json"))
        for kind in KINDS:
            holds(f"the server of an ended {kind}", judged(texts[kind]), "revoked")
            ours(files[kind], trusted, 0, "valid", "--revoked", lists["none"])
            next_one = written(f"{kind}-next", json.loads(made(kind))["text"].encode() + b"\n")
            for by in ("revoked", "cards"):
                ours(files[kind], trusted, 3, "revoked", "--revoked", lists[by])
                ours(next_one, trusted, 0, "valid", "--revoked", lists[by])


def main(folder):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Served)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def at(name):
        return os.path.join(folder, name)

    def written(name, text):
        with open(at(name), "w") as file:
            file.write(text + "\n")
        return at(name)

    text = open(PROGRAMME).read()
    address = 'uri = "https://www.mohfw.gov.in/"'
    kinds = 'kinds = ["w3c", "eu_dcc"]'
    assert address in text and kinds in text, "the programme is India's"
    text = text.replace(address, f'uri = "http://127.0.0.1:{server.server_port}"')
    programme = written("programme.toml", text.replace(kinds, 'kinds = ["w3c", "eu_dcc", "smart_health_card"]'))

    for keys in ("keys", "others"):
        for kind in KINDS:
            run(BERTH, "certificate", "keygen", "--keys", at(keys), "--kind", kind, "--programme", programme)

    def public(keys, form):
        return run(BERTH, "certificate", "keys", "--keys", at(keys), "--form", form)

    def issued(kind, keys, *more, said=None):
        path = written("claims.json", said or json.dumps(claims()))
        return run(BERTH, "certificate", "issue", path, "--kind", kind, "--programme", programme, "--keys", at(keys), *more)

    trusted = written("trusted.json", public("keys", "jwks"))
    revoked = written("revoked.txt", "# of today\nTESTCERTIFICATE00001")

    # EU certificates.
    signers = {keys: written(f"{keys}-eu.json", public(keys, "eu")) for keys in ("keys", "others")}
    good = written("eu", issued("eu_dcc", "keys"))
    holds("a good EU certificate", outside("eu", good, signers["keys"], signers["keys"]), "accepted")
    holds("an EU certificate of a wrong key", outside("eu", good, signers["keys"], signers["others"]), "refused")
    tampered = written("eu-tampered", outside("tamper-eu", good))
    holds("a tampered EU certificate", outside("eu", tampered, signers["keys"], signers["keys"]), "refused")

    # Verifiable Credentials. One of a wrong key names another's.
    def dids(keys):
        return json.loads(public(keys, "did"))[0]["id"].removeprefix("did:key:")

    good = written("w3c", issued("w3c", "keys"))
    holds("a good credential", outside("w3c", good), "1")
    name = open(good).read().rstrip("\n")
    assert name.count("Asha Bharti") == 1
    tampered = written("w3c-tampered", name.replace("Asha Bharti", "Usha Bharti"))
    holds("a tampered credential", outside("w3c", tampered), "0")
    wrong = written("w3c-wrong", issued("w3c", "others").replace(dids("others"), dids("keys")))
    holds("a credential of a wrong key", outside("w3c", wrong), "0")
    chance = random.Random(1)
    many = "\n".join(json.dumps(random_claims(chance)) for _ in range(RANDOM_CREDENTIALS))
    many = written("w3c-many", issued("w3c", "keys", "--lines", said=many))
    holds("random credentials", outside("w3c", many), str(RANDOM_CREDENTIALS))

    # SMART Health Cards, whose keys the verifier fetches from the issuer.
    good = written("card", issued("smart_health_card", "keys"))
    Served.keys = public("keys", "shc")
    holds("a good card", card("verify", good), "accepted")
    tampered = written("card-tampered", card("tamper", good))
    holds("a tampered card", card("verify", tampered), "refused")
    kid = json.loads(Served.keys)["keys"][0]["kid"]
    others = json.loads(public("others", "shc"))
    others["keys"][0]["kid"] = kid
    Served.keys = json.dumps(others)
    holds("a card of a wrong key", card("verify", good), "refused")

    # QR images, and the one on the paper, as a scanner reads them.
    for kind in KINDS:
        issued_as = lambda *more: image("certificate", "issue", at("claims.json"), "--kind", kind, "--programme", programme, "--keys", at("keys"), *more)
        written("claims.json", json.dumps(claims()))
        pictures = {"png": issued_as("--as", "png")}
        with open(at("code.svg"), "wb") as file:
            file.write(issued_as("--as", "svg"))
        pictures["svg"] = raster(at("code.svg"))
        for language in ("en", "mr", "hi"):
            with open(at("paper.pdf"), "wb") as file:
                file.write(issued_as("--as", "pdf", "--language", language))
            tells(at("paper.pdf"), claims())
        run("pdftoppm", "-r", "200", "-png", "-singlefile", at("paper.pdf"), at("paper"))
        pictures["paper"] = open(at("paper.png"), "rb").read()
        for name, picture in pictures.items():
            with open(at("picture.png"), "wb") as file:
                file.write(picture)
            scanned = image_of(at("picture.png"))
            with open(at("scanned"), "wb") as file:
                file.write(scanned)
            ours(at("scanned"), trusted, 0, "valid")

    # And what we say of the same.
    others = written("others.json", public("others", "jwks"))
    for name in ("eu", "w3c", "card"):
        ours(at(name), trusted, 0, "valid", "--revoked", written("nothing.txt", ""))
        ours(at(name), trusted, 3, "revoked", "--revoked", revoked)
        ours(at(f"{name}-tampered"), trusted, 1, "bad_signature")
        ours(at(name), others, 1, "unknown_key")
        ours(at(name), trusted, 4, "expired", "--at", "2099-01-01T00:00:00Z")
    ours(at("w3c-wrong"), trusted, 1, "bad_signature")
    server.shutdown()
    served(os.path.join(folder, "served"))
    print(f"{checks} checks, {RANDOM_CREDENTIALS} random credentials among them")


with tempfile.TemporaryDirectory(prefix="berth-certificates-") as folder:
    main(folder)
