"""One question to a verifier that is not ours, in a process of its own, for some keep the keys they have seen.

    outside.py eu FILE SIGNERS KEYS   is the EU certificate in FILE signed by its kid's key? SIGNERS say which kid, KEYS have the key
    outside.py w3c FILE               how many lines of FILE are Verifiable Credentials that hold
    outside.py tamper-eu FILE         the EU certificate with another name in it

The last line of the output is the answer.
"""

import asyncio
import json
import os
import sys
import zlib


def eu(certificate, signers, keys):
    from base45 import b45decode
    from covidpy.verifier import DCCVerifier

    verifier = DCCVerifier(True, True)
    (kid,) = json.load(open(signers))
    ((key,),) = json.load(open(keys)).values()
    verifier.append_kid(kid, key["subjectPk"])
    packed = b45decode(open(certificate).read().rstrip("\n").removeprefix("HC1:"))
    return "accepted" if verifier.is_valid(zlib.decompress(packed)) else "refused"


def w3c(certificates):
    import didkit

    async def held():
        told = [json.loads(await didkit.verify_credential(line, "{}")) for line in open(certificates)]
        for answer in told:
            if answer["errors"]:
                print(answer["errors"])
        return sum(1 for answer in told if not answer["errors"] and answer["checks"] == ["proof"])

    return asyncio.run(held())


def tamper_eu(certificate):
    from base45 import b45decode, b45encode

    cose = zlib.decompress(b45decode(open(certificate).read().rstrip("\n").removeprefix("HC1:")))
    assert cose.count(b"Asha Bharti") == 1, "the name stands in it once"
    return "HC1:" + b45encode(zlib.compress(cose.replace(b"Asha Bharti", b"Usha Bharti"), 9)).decode()


answer = {"eu": eu, "w3c": w3c, "tamper-eu": tamper_eu}[sys.argv[1]](*sys.argv[2:])
print(answer, flush=True)
# At the end of the interpreter didkit falls over its own runtime; by then all is said.
os._exit(0)
