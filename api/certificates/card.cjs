// One question to a verifier of SMART Health Cards that is not ours. The last line of the output is the answer.
//
//   node card.cjs verify FILE   is the card in FILE signed by a key that its issuer serves?
//   node card.cjs tamper FILE   the card with another name in it
'use strict';
const fs = require('node:fs');
const zlib = require('node:zlib');
const { createRequire } = require('node:module');
const sdk = createRequire(process.cwd() + '/')('@pathcheck/shc-sdk');

const [question, file] = process.argv.slice(2);
const card = fs.readFileSync(file, 'utf8').trim();

async function verify() {
  const told = await sdk.unpackAndVerify(card);
  return told ? 'accepted' : 'refused';
}

async function tamper() {
  const [head, payload, signature] = (await sdk.unpack(card)).split('.');
  const text = zlib.inflateRawSync(Buffer.from(payload, 'base64url')).toString();
  if (!text.includes('Asha Bharti')) throw new Error('the name stands in it');
  const other = zlib.deflateRawSync(text.replace('Asha Bharti', 'Usha Bharti')).toString('base64url');
  return sdk.pack(`${head}.${other}.${signature}`);
}

({ verify, tamper })[question]().then((answer) => console.log(answer));
