//! A twin of the server, small and slow, that keeps the contract of `docs/http-api.md` as far as the harness drives it.
//!
//! It exists to be wrong on purpose: [`Fault`] names the promises it can break. It shares no code with Berth.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

/// Which promise this twin breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Sells past the capacity.
    Oversells,
    /// Answers before the journal is durable.
    AnswersEarly,
    /// Does not know a key again.
    ForgetsKeys,
    /// Lets one person claim as often as they like.
    ManyClaims,
    /// Confirms holds that have run out.
    ConfirmsLate,
}

impl Fault {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "oversells" => Self::Oversells,
            "answers-early" => Self::AnswersEarly,
            "forgets-keys" => Self::ForgetsKeys,
            "many-claims" => Self::ManyClaims,
            "confirms-late" => Self::ConfirmsLate,
            _ => Self::None,
        }
    }
}

/// How long the twin gathers entries before it "syncs" them.
const SYNC_EVERY: Duration = Duration::from_millis(30);
/// So many of the newest entries the twin that answers early has not on its disk at any time, so that a kill always catches some.
const LATE_ENTRIES: usize = 16;

#[derive(Debug)]
pub(crate) struct Twin {
    fault: Fault,
    hold_ms: i64,
    state: Mutex<State>,
    synced: Condvar,
}

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    /// Entries not yet in the file: lost with the process.
    pending: Vec<Value>,
    seq: u64,
    synced_seq: u64,
    sessions: Vec<Value>,
    district_of: BTreeMap<String, String>,
    slots: Vec<Slot>,
    parties: u64,
    bookings: BTreeMap<String, Booking>,
    keys: HashMap<String, (u64, u16, Value)>,
}

#[derive(Clone, Debug)]
struct Slot {
    name: String,
    session: String,
    district: String,
    pool: String,
    capacity: u64,
    held: u64,
    booked: u64,
}

#[derive(Clone, Debug)]
struct Booking {
    hold: String,
    state: &'static str,
    party: String,
    slot: String,
    dose: u64,
    expires_ms: i64,
}

/// Status, body, whether it is a replay, and the entry it rests on.
pub(crate) type Reply = (u16, String, bool);

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap().to_string()
}

impl Twin {
    /// Opens the data directory and replays its journal.
    pub(crate) fn open(data_dir: &Path, fault: Fault, hold_ms: i64) -> Self {
        std::fs::create_dir_all(data_dir).unwrap();
        let path = journal_path(data_dir);
        let mut state = State::default();
        if path.exists() {
            let mut whole = String::new();
            for line in BufReader::new(File::open(&path).unwrap()).lines().map(Result::unwrap) {
                // A kill may have torn the last line; nobody was told of it.
                let Ok(entry) = serde_json::from_str::<Value>(&line) else { break };
                state.apply(&entry, fault);
                whole.push_str(&line);
                whole.push('\n');
            }
            std::fs::write(&path, whole).unwrap();
        }
        state.synced_seq = state.seq;
        state.file = Some(OpenOptions::new().create(true).append(true).open(&path).unwrap());
        Self { fault, hold_ms, state: Mutex::new(state), synced: Condvar::new() }
    }

    /// Syncs and expires, for ever.
    pub(crate) fn keep_house(&self) {
        loop {
            std::thread::sleep(SYNC_EVERY);
            self.sync_but(if self.fault == Fault::AnswersEarly { LATE_ENTRIES } else { 0 });
        }
    }

    pub(crate) fn sync(&self) {
        self.sync_but(0);
    }

    /// All but so many of the newest entries.
    fn sync_but(&self, late: usize) {
        let mut state = self.state.lock().unwrap();
        let now = now_ms();
        let due: Vec<String> = state
            .bookings
            .iter()
            .filter(|(code, booking)| booking.state == "held" && booking.expires_ms < now && **code == booking.hold)
            .map(|(code, _)| code.clone())
            .collect();
        if self.fault != Fault::ConfirmsLate {
            for hold in due {
                state.write(json!({"kind": "expired", "hold": hold}), self.fault);
            }
        }
        let synced = state.pending.len().saturating_sub(late);
        let pending: Vec<_> = state.pending.drain(..synced).collect();
        let text: String = pending.iter().map(|entry| format!("{entry}\n")).collect();
        state.file.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
        state.synced_seq = state.seq;
        drop(state);
        self.synced.notify_all();
    }

    /// Answers one request; a change waits until it is durable.
    pub(crate) fn answer(&self, method: &str, target: &str, key: Option<&str>, body: &str) -> Reply {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let mut state = self.state.lock().unwrap();
        if method == "GET" {
            let (status, body) = state.read(&parts, query);
            return (status, body, false);
        }
        let Some(key) = key else { return problem(400, "idempotency_key_missing") };
        if self.fault != Fault::ForgetsKeys
            && let Some((seq, status, answer)) = state.keys.get(key).cloned()
        {
            // A replay shows a claim, so it too waits until that is durable.
            drop(self.durable(state, seq));
            return (status, answer.to_string(), true);
        }
        match state.change(&parts, body, self.hold_ms, self.fault, key) {
            Err("full") => (409, state.full(body).to_string(), false),
            Err(code) => problem(if code.starts_with("unknown") { 404 } else { 409 }, code),
            Ok((status, answer)) => {
                let seq = state.seq;
                drop(self.durable(state, seq));
                (status, answer.to_string(), false)
            }
        }
    }

    fn durable<'a>(&'a self, mut state: MutexGuard<'a, State>, seq: u64) -> MutexGuard<'a, State> {
        while self.fault != Fault::AnswersEarly && state.synced_seq < seq {
            state = self.synced.wait(state).unwrap();
        }
        state
    }

    pub(crate) fn export(&self) -> String {
        self.state.lock().unwrap().export()
    }
}

pub(crate) fn journal_path(data_dir: &Path) -> PathBuf {
    data_dir.join("journal.ndjson")
}

fn problem(status: u16, code: &str) -> Reply {
    (status, json!({ "code": code }).to_string(), false)
}

impl State {
    fn read(&self, parts: &[&str], query: &str) -> (u16, String) {
        match parts {
            ["version"] => (200, json!({"version": "twin", "fault": null}).to_string()),
            ["v1", "export"] => (200, self.export()),
            ["v1", "bookings", code] => match self.bookings.contains_key(*code) {
                true => (200, self.booking(code).to_string()),
                false => (404, json!({"code": "unknown_booking"}).to_string()),
            },
            ["v1", "outcomes", key] => match self.keys.get(*key) {
                Some((_, _, answer)) => (200, answer.to_string()),
                None => (404, json!({"code": "unknown_key"}).to_string()),
            },
            ["v1", "availability"] => {
                let district = query.split('&').find_map(|part| part.strip_prefix("district=")).unwrap_or_default();
                let slots: Vec<Value> = self
                    .slots
                    .iter()
                    .filter(|slot| slot.district == district && slot.held + slot.booked < slot.capacity)
                    .map(|slot| json!({"slot": slot.name, "pool": slot.pool, "free": slot.capacity - slot.held - slot.booked}))
                    .collect();
                (200, json!({"centres": [{"sessions": [{"slots": slots}]}]}).to_string())
            }
            _ => (404, json!({"code": "not_found"}).to_string()),
        }
    }

    /// Decides a request and writes its entry.
    fn change(
        &mut self,
        parts: &[&str],
        body: &str,
        hold_ms: i64,
        fault: Fault,
        key: &str,
    ) -> Result<(u16, Value), &'static str> {
        let lines = || body.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
        let (status, entry) = match parts {
            ["v1", "regions"] => return Ok((200, json!({}))),
            ["v1", "centres"] => (200, json!({"kind": "note", "centres": lines()})),
            ["v1", "sessions"] => (200, json!({"kind": "published", "sessions": lines()})),
            ["v1", "parties"] => {
                let count = lines()[0]["count"].clone();
                self.write(json!({"kind": "parties_added", "count": count, "first": self.parties}), fault);
                return Ok((
                    201,
                    json!({"first": format!("p1.{}", self.parties - count.as_u64().unwrap()), "count": count}),
                ));
            }
            ["v1", kind @ ("holds" | "bookings")] => {
                let claims = self.claims(&lines()[0]["claims"], fault)?;
                if *kind == "holds" {
                    let expires = time(now_ms() + hold_ms);
                    (201, json!({"kind": "held", "claims": claims, "expires_at": expires}))
                } else {
                    (201, json!({"kind": "booked", "claims": claims}))
                }
            }
            ["v1", "holds", hold, turn] => {
                let booking = self.bookings.get(*hold).ok_or("unknown_booking")?;
                let late = booking.expires_ms < now_ms() && fault != Fault::ConfirmsLate;
                match booking.state {
                    "held" if late => return Err("hold_expired"),
                    "held" => {}
                    "expired" => return Err("hold_expired"),
                    _ => return Err("wrong_state"),
                }
                (200, json!({"kind": if *turn == "confirm" { "confirmed" } else { "released" }, "hold": hold}))
            }
            ["v1", "bookings", code, turn] => {
                let booking = self.bookings.get(*code).ok_or("unknown_booking")?.clone();
                if booking.state != "booked" {
                    return Err("wrong_state");
                }
                if *turn == "cancel" {
                    (200, json!({"kind": "cancelled", "booking": code}))
                } else {
                    let slot = lines()[0]["slot"].as_str().unwrap().to_owned();
                    if !self.has_room(&slot, 1, fault) {
                        return Err("full");
                    }
                    let to = json!({"booking": self.next_code(0), "party": booking.party, "slot": slot, "dose": booking.dose});
                    (200, json!({"kind": "moved", "from": code, "to": to}))
                }
            }
            _ => return Err("not_found"),
        };
        let mut entry = entry;
        entry["key"] = json!(key);
        entry["status"] = json!(status);
        Ok((status, self.write(entry, fault)))
    }

    fn claims(&self, asked: &Value, fault: Fault) -> Result<Vec<Value>, &'static str> {
        let asked = asked.as_array().unwrap();
        let mut claims = Vec::new();
        let mut wanted: BTreeMap<&str, u64> = BTreeMap::new();
        for (place, claim) in asked.iter().enumerate() {
            let live = |booking: &Booking| {
                matches!(booking.state, "held" | "booked")
                    && claim["party"] == booking.party
                    && claim["dose"] == booking.dose
            };
            if fault != Fault::ManyClaims && self.bookings.values().any(live) {
                return Err("already_claimed");
            }
            *wanted.entry(claim["slot"].as_str().unwrap()).or_default() += 1;
            let mut made = claim.clone();
            made["booking"] = json!(self.next_code(place));
            claims.push(made);
        }
        if wanted.into_iter().all(|(slot, units)| self.has_room(slot, units, fault)) { Ok(claims) } else { Err("full") }
    }

    fn has_room(&self, name: &str, units: u64, fault: Fault) -> bool {
        let slot = self.slots.iter().find(|slot| slot.name == name).unwrap();
        fault == Fault::Oversells || slot.held + slot.booked + units <= slot.capacity
    }

    /// The refusal of a request that found no room, with the counts of the slot that has the least for it.
    fn full(&self, body: &str) -> Value {
        let asked: Value = serde_json::from_str(body).unwrap();
        let mut wanted: BTreeMap<&str, i64> = BTreeMap::new();
        for claim in asked["claims"].as_array().map_or(std::slice::from_ref(&asked), Vec::as_slice) {
            *wanted.entry(claim["slot"].as_str().unwrap()).or_default() += 1;
        }
        let free =
            |slot: &Slot| i64::try_from(slot.capacity).unwrap() - i64::try_from(slot.held + slot.booked).unwrap();
        let slots = self.slots.iter().filter(|slot| wanted.contains_key(slot.name.as_str()));
        let slot = slots.min_by_key(|slot| free(slot) - wanted[slot.name.as_str()]).unwrap();
        json!({"code": "full", "capacity": slot.capacity, "held": slot.held, "booked": slot.booked})
    }

    fn next_code(&self, place: usize) -> String {
        format!("B{}", self.bookings.len() + place)
    }

    /// Appends an entry and applies it; returns the answer to the request that made it.
    fn write(&mut self, entry: Value, fault: Fault) -> Value {
        let mut entry = entry;
        entry["seq"] = json!(self.seq + 1);
        entry["at"] = json!(time(now_ms()));
        let answer = self.apply(&entry, fault);
        self.pending.push(entry);
        answer
    }

    fn apply(&mut self, entry: &Value, fault: Fault) -> Value {
        self.seq = entry["seq"].as_u64().unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let answer = match entry["kind"].as_str().unwrap() {
            "note" => {
                for centre in entry["centres"].as_array().unwrap() {
                    self.district_of.insert(text(&centre["id"]), text(&centre["district"]));
                }
                json!({})
            }
            "published" => {
                for session in entry["sessions"].as_array().unwrap() {
                    for window in session["windows"].as_array().unwrap() {
                        for (pool, units) in window["pools"].as_object().unwrap() {
                            self.slots.push(Slot {
                                name: format!("s1.{}", self.slots.len()),
                                session: text(&session["id"]),
                                district: self.district_of[session["centre"].as_str().unwrap()].clone(),
                                pool: pool.clone(),
                                capacity: units.as_u64().unwrap(),
                                held: 0,
                                booked: 0,
                            });
                        }
                    }
                    self.sessions.push(session.clone());
                }
                json!({})
            }
            "parties_added" => {
                self.parties += entry["count"].as_u64().unwrap();
                json!({})
            }
            kind @ ("held" | "booked") => self.claim(entry["claims"].as_array().unwrap(), kind, &entry["expires_at"]),
            "moved" => {
                self.turn(&text(&entry["from"]), "moved");
                self.claim(std::slice::from_ref(&entry["to"]), "booked", &Value::Null);
                let mut answer = self.booking(&text(&entry["to"]["booking"]));
                answer["moved_from"] = entry["from"].clone();
                answer
            }
            "cancelled" => {
                self.turn(&text(&entry["booking"]), "cancelled");
                self.booking(&text(&entry["booking"]))
            }
            kind => {
                let hold = text(&entry["hold"]);
                let to = match kind {
                    "confirmed" => "booked",
                    "released" => "released",
                    _ => "expired",
                };
                let codes: Vec<String> =
                    self.bookings.iter().filter(|(_, one)| one.hold == hold).map(|(code, _)| code.clone()).collect();
                for code in &codes {
                    self.turn(code, to);
                }
                let bookings: Vec<Value> = codes.iter().map(|code| self.booking(code)).collect();
                if to == "booked" {
                    json!({"hold": hold, "bookings": bookings})
                } else {
                    json!({"hold": hold, "state": to})
                }
            }
        };
        if let (Some(key), true) = (entry["key"].as_str(), fault != Fault::ForgetsKeys) {
            let status = u16::try_from(entry["status"].as_u64().unwrap()).unwrap();
            self.keys.insert(key.to_owned(), (self.seq, status, answer.clone()));
        }
        answer
    }

    fn claim(&mut self, claims: &[Value], kind: &str, expires_at: &Value) -> Value {
        let state = if kind == "held" { "held" } else { "booked" };
        let hold = claims[0]["booking"].as_str().unwrap().to_owned();
        let expires_ms =
            expires_at.as_str().map_or(0, |text| text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        for claim in claims {
            let text = |field: &str| claim[field].as_str().unwrap().to_owned();
            let booking = Booking {
                hold: hold.clone(),
                state,
                party: text("party"),
                slot: text("slot"),
                dose: claim["dose"].as_u64().unwrap(),
                expires_ms,
            };
            let slot = self.slots.iter_mut().find(|slot| slot.name == booking.slot).unwrap();
            if state == "held" {
                slot.held += 1;
            } else {
                slot.booked += 1;
            }
            self.bookings.insert(text("booking"), booking);
        }
        if state == "held" {
            json!({"hold": hold, "expires_at": expires_at, "claims": claims})
        } else {
            json!({"hold": hold, "bookings": claims})
        }
    }

    fn turn(&mut self, code: &str, to: &'static str) {
        let booking = self.bookings.get_mut(code).unwrap();
        let was = std::mem::replace(&mut booking.state, to);
        let slot = self.slots.iter_mut().find(|slot| slot.name == booking.slot).unwrap();
        match was {
            "held" => slot.held -= 1,
            _ => slot.booked -= 1,
        }
        if to == "booked" {
            slot.booked += 1;
        }
    }

    fn booking(&self, code: &str) -> Value {
        let booking = &self.bookings[code];
        json!({"booking": code, "hold": booking.hold, "state": booking.state, "party": booking.party, "slot": booking.slot, "dose": booking.dose})
    }

    fn export(&self) -> String {
        let mut lines = Vec::new();
        for slot in &self.slots {
            lines.push(json!({"kind": "slot", "slot": slot.name, "session": slot.session, "pool": slot.pool, "capacity": slot.capacity, "held": slot.held, "booked": slot.booked}));
        }
        for (code, booking) in &self.bookings {
            let mut line = self.booking(code);
            line["kind"] = json!("booking");
            line["expires_at"] = if booking.expires_ms > 0 { json!(time(booking.expires_ms)) } else { Value::Null };
            lines.push(line);
        }
        lines.push(json!({"kind": "end", "slots": self.slots.len(), "bookings": self.bookings.len(), "seq": self.seq}));
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
