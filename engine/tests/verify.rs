//! Reading a data directory and judging the rules: what holds is found to hold, and what is broken is found by its rule.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use berth_engine::journal::entry::{Entry, Event, PublishedSlot};
use berth_engine::verify::Ledger;
use berth_engine::verify::directory::{Report, verify};
use berth_engine::*;
use support::{book, config, open, run, seed};

const WINDOW: Duration = Duration::from_secs(86_400);

fn judge(dir: &Path) -> Report {
    verify(&JournalFiles::open(dir).unwrap(), WINDOW, &mut |_| {}).unwrap()
}

fn snapshots(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir.join("snapshots")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Somebody comes without a booking; somebody with one does not; a session is called off.
fn at_the_door(submit: &dyn Fn(Command<'_>) -> Result<Outcome, Refusal>, claims: [Claim; 2], round: u32) {
    let what = round % 3;
    if what == 0 {
        // Until the slot is full of those that were served.
        if let Ok(Outcome::WalkedIn { claim }) = submit(Command::WalkIn { claim: claims[0] }) {
            submit(Command::Complete { booking: claim.number }).unwrap();
        }
        return;
    }
    let Ok(Outcome::Booked { claims }) = submit(Command::Book { claims: &claims }) else { return };
    let bookings = [claims[0].number, claims[1].number];
    if what == 1 {
        bookings.iter().for_each(|booking| drop(submit(Command::NoShow { booking: *booking }).unwrap()));
    } else {
        submit(Command::CancelGroup { bookings: &bookings, by: By::Administration }).unwrap();
    }
}

/// Books, moves, cancels and releases in two threads while snapshots are taken, in two runs.
fn lived_in(dir: &Path) {
    let mut config = config(dir);
    config.hold_grace = Duration::from_secs(1200);
    for begin in 0..2u8 {
        let engine = Arc::new(open(&config));
        if begin == 0 {
            seed(&engine, 200, 40);
            seed(&engine, 10, 30);
            seed(&engine, 1, 1);
            let facts = SlotFacts { starts_at: engine.now(), ..SlotFacts::default() };
            let capacity = Units::new(500).unwrap();
            run(
                &engine,
                Command::Publish { slots: &[SlotSpec { centre: CentreKey(1), capacity, facts }], note: b"door" },
            );
        }
        let slots: Vec<SlotId> = {
            let mut slots = Vec::new();
            engine.for_each_slot(&mut |slot, _, _| slots.push(slot));
            slots
        };
        let done = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..2u32)
            .map(|worker| {
                let (engine, slots, done) = (Arc::clone(&engine), slots.clone(), Arc::clone(&done));
                std::thread::spawn(move || {
                    for round in 0..u32::MAX {
                        if done.load(Relaxed) {
                            return;
                        }
                        let party = PartyId(round % 50 * 4 + worker * 2);
                        let claims = [0, 1].map(|next| Claim {
                            party: PartyId(party.0 + next),
                            slot: slots[round as usize % 2],
                            dose: Dose(1),
                        });
                        let key = u128::from(round) << 8 | u128::from(worker) << 4 | u128::from(begin);
                        let idempotency = Some(Idempotency { key: IdempotencyKey(key), fingerprint: 1 });
                        let submit = |command: Command<'_>, idempotency| {
                            let told = engine.submit(&Request { command, idempotency }, engine.now()).unwrap();
                            engine.ticket(told.seq).wait().unwrap();
                            told.result
                        };
                        let ttl = Duration::from_secs(600);
                        let Ok(Outcome::Held { claims, .. }) =
                            submit(Command::Hold { claims: &claims, ttl }, idempotency)
                        else {
                            // Of both: a moved booking has left its partner's behind, and a pair that is never free again
                            // would end the work before the snapshots are taken.
                            for claim in &claims {
                                for view in engine.party_bookings(claim.party).unwrap().bookings {
                                    submit(Command::Cancel { booking: view.number, by: By::Holder }, None).ok();
                                    submit(Command::Release { hold: view.hold }, None).ok();
                                }
                            }
                            continue;
                        };
                        let claim = |n| Claim { party: PartyId(200 + 2 * worker + n), slot: slots[3], dose: Dose(1) };
                        at_the_door(&|command| submit(command, None), [claim(0), claim(1)], round);
                        let hold = claims[0].number;
                        if round % 5 == 0 {
                            submit(Command::Release { hold }, None).unwrap();
                        } else {
                            submit(Command::Confirm { hold }, None).unwrap();
                            submit(
                                Command::Move { booking: hold, to: slots[(round as usize + 1) % 2], by: By::Holder },
                                None,
                            )
                            .ok();
                        }
                    }
                })
            })
            .collect();
        // One at least that something happened in while it was taken.
        loop {
            engine.ticket(Seq(engine.appended().0 + 150)).wait().unwrap();
            let taken = engine.snapshot().unwrap().unwrap();
            if taken.s1 > taken.s0 {
                break;
            }
        }
        done.store(true, Relaxed);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        let (_, seq) = run(&engine, Command::Close { slot: slots[0] });
        engine.ticket(seq).wait().unwrap();
        run(&engine, Command::Open { slot: slots[0] });
        if begin == 0 {
            // Live at the end of the run, so that the next gives it a grace.
            let claim = Claim { party: PartyId(210), slot: slots[2], dose: Dose(1) };
            run(&engine, Command::Hold { claims: &[claim], ttl: Duration::from_secs(600) });
        }
        engine.close().unwrap();
    }
}

// rule: SNP-3
#[test]
fn a_directory_that_was_lived_in_is_judged_by_every_rule_and_held() {
    let dir = tempfile::tempdir().unwrap();
    lived_in(dir.path());
    let report = judge(dir.path());
    assert_eq!(report.findings, []);
    assert_eq!((report.first, report.judged_from, report.epoch, report.torn), (Seq(1), Seq(0), Epoch(2), None));
    assert_eq!(report.snapshots.len(), 2);
    assert!(report.snapshots.iter().any(|seen| seen.s1 > Some(seen.s0)), "{:?}", report.snapshots);
    assert_eq!((report.entries, report.judged.jnl_1), (report.last.0, report.last.0));
    for (rule, judged) in report.judged.by_rule() {
        assert!(judged > 0, "{rule} was not judged");
    }
    // The books come to what the engine comes to.
    let engine = open(&config(dir.path()));
    let mut ledger = Ledger::new(WINDOW);
    drop(engine.close());
    let mut counts = Vec::new();
    engine.for_each_slot(&mut |slot, _, word| {
        counts.push((slot, [word.capacity(), word.held(), word.booked()].map(|units| u64::from(units.get()))));
    });
    drop(engine);
    JournalFiles::open(dir.path()).unwrap().entries(&mut |seq, _, entry| ledger.apply(seq, entry)).unwrap();
    for (slot, [capacity, held, booked]) in counts {
        assert_eq!(ledger.slot(slot), Some((capacity, held, booked)), "slot {slot}");
    }
}

#[test]
fn a_trimmed_log_is_judged_from_its_oldest_snapshot_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let engine = open(&config);
    let slot = seed(&engine, 20, 9);
    let note = vec![7u8; 300_000];
    for party in 0..6 {
        let (booking, _) = book(&engine, party, slot);
        for _ in 0..5 {
            let (_, seq) = run(&engine, Command::Note { note: &note });
            engine.ticket(seq).wait().unwrap();
        }
        if party % 2 == 0 {
            let (_, seq) = run(&engine, Command::Cancel { booking, by: By::Holder });
            engine.ticket(seq).wait().unwrap();
        }
        engine.snapshot().unwrap().unwrap();
    }
    let (booking, _) = book(&engine, 7, slot);
    run(&engine, Command::Cancel { booking, by: By::Holder });
    engine.close().unwrap();
    drop(engine);
    let report = judge(dir.path());
    assert_eq!(report.findings, []);
    assert!(report.first > Seq(1), "nothing was trimmed");
    assert_eq!(report.judged_from, report.snapshots[0].s0);
    assert_eq!(report.entries, report.last.0 - report.first.0 + 1);
    assert_eq!(report.judged.jnl_1, report.last.0 - report.judged_from.0);
    assert!(report.judged.snp_3 > 20, "the newer snapshot was not compared: {:?}", report.judged);

    // Without its older snapshot it is judged from the newer one on; without either there is nothing to begin with.
    let files = snapshots(dir.path());
    let kept = fs::read(&files[0]).unwrap();
    fs::remove_file(&files[0]).unwrap();
    let report = judge(dir.path());
    assert_eq!((report.findings.len(), report.judged_from), (0, report.snapshots[0].s0));
    let newer = fs::read(&files[1]).unwrap();
    fs::remove_file(&files[1]).unwrap();
    let error = verify(&JournalFiles::open(dir.path()).unwrap(), WINDOW, &mut |_| {}).expect_err("judged");
    assert!(error.to_string().contains("no whole snapshot says what was before"), "{error}");

    // A log trimmed past the snapshot that needs it, and a snapshot whose end the log does not reach.
    fs::write(&files[0], &kept).unwrap();
    fs::write(&files[1], &newer).unwrap();
    let mut segments: Vec<_> = fs::read_dir(dir.path().join("journal")).unwrap().map(|e| e.unwrap().path()).collect();
    segments.sort();
    let used: Vec<_> = segments.iter().filter(|path| fs::read(path).unwrap()[0] != 0).collect();
    let newest_s0 = u64::from_le_bytes(newer[24..32].try_into().unwrap());
    let first = |path: &PathBuf| u64::from_le_bytes(fs::read(path).unwrap()[32..40].try_into().unwrap());
    for pair in used.windows(2) {
        if first(pair[1]) <= newest_s0 + 1 {
            fs::remove_file(pair[0]).unwrap();
        }
    }
    let found: Vec<_> = judge(dir.path()).findings.iter().map(|finding| finding.rule).collect();
    assert_eq!(found, ["SNP-2"]);
}

/// Chunks of a snapshot with `change` made to each payload, checksums and links made right again.
fn forge(bytes: &[u8], mut change: impl FnMut(u32, &mut [u8])) -> Vec<u8> {
    let mut forged = bytes[..64].to_vec();
    let mut link = bytes[48..56].to_vec();
    let mut at = 64;
    while at < bytes.len() {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (kind, len) = (u32_at(at + 4), u32_at(at + 12) as usize);
        let mut fields = bytes[at..at + 24].to_vec();
        fields.extend_from_slice(&link);
        let mut payload = bytes[at + 40..at + 40 + len].to_vec();
        change(kind, &mut payload);
        let check = crc_fast::crc64_nvme(&[&fields[..], &payload[..]].concat());
        link = check.to_le_bytes().to_vec();
        let start = forged.len();
        forged.extend([&fields[..], &link[..], &payload[..]].concat());
        forged.resize(start + (forged.len() - start).next_multiple_of(8), 0);
        at += (40 + len).next_multiple_of(8);
    }
    forged
}

// rule: SNP-3
// rule: SNP-1
#[test]
fn a_snapshot_that_says_something_else_than_the_log_is_found() {
    let dir = tempfile::tempdir().unwrap();
    lived_in(dir.path());
    let newest = snapshots(dir.path()).pop().unwrap();
    let whole = fs::read(&newest).unwrap();
    assert_eq!(forge(&whole, |_, _| {}), whole, "the forger changes nothing but what it is told to");
    let rules = |change: &mut dyn FnMut(u32, &mut [u8])| {
        fs::write(&newest, forge(&whole, change)).unwrap();
        let mut rules: Vec<_> = judge(dir.path()).findings.iter().map(|finding| finding.rule).collect();
        rules.dedup();
        rules
    };
    // The last booking's dose; a party more, which the totals tell too; a key's entry; a note's byte.
    let bookings = 4;
    assert_eq!(
        rules(&mut |kind, payload| if kind == bookings {
            payload[8 + 1] ^= 1
        }),
        ["SNP-3"]
    );
    let parties = 2;
    assert_eq!(
        rules(&mut |kind, payload| match kind {
            kind if kind == parties => payload[0] += 1,
            6 => payload[8] += 1,
            _ => {}
        }),
        ["SNP-3"]
    );
    let keys = 5;
    assert_eq!(
        rules(&mut |kind, payload| if kind == keys {
            payload[24] ^= 1
        }),
        ["SNP-3"]
    );
    let catalogue = 1;
    let last = |payload: &mut [u8]| *payload.last_mut().unwrap() ^= 1;
    assert_eq!(
        rules(&mut |kind, payload| if kind == catalogue {
            last(payload)
        }),
        ["SNP-3"]
    );
    // S1 behind the end of the log: it was named too early.
    assert_eq!(
        rules(&mut |kind, payload| if kind == 6 {
            payload[6] = 1
        }),
        ["SNP-1"]
    );
    // And damage.
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(&newest, flipped).unwrap();
    let report = judge(dir.path());
    let found: Vec<_> = report.findings.iter().map(|finding| finding.rule).collect();
    assert_eq!(found, ["SNP-1"]);
    assert!(report.snapshots[1].fault.as_ref().unwrap().contains("damaged at offset"), "{report:?}");
}

/// Journals no kernel writes: the rule that each breaks.
// rule: CAP-1
// rule: CAP-3
// rule: PTY-1
// rule: HLD-1
// rule: HLD-4
// rule: BKG-1
// rule: BKG-2
// rule: WLK-1
// rule: NSH-1
// rule: DOS-1
// rule: IDM-1
// rule: JNL-1
// rule: TIM-1
#[test]
fn each_rule_is_found_broken_in_a_journal_that_breaks_it() {
    let claim = |party, slot| Claim { party: PartyId(party), slot: SlotId(slot), dose: Dose(1) };
    let held = |first, parties: &[u32]| Event::Held {
        first: BookingNumber(first),
        expires_at: TimestampMs(100),
        claims: parties.iter().map(|party| claim(*party, 0)).collect(),
    };
    let booked = |first, party, slot| Event::Booked {
        first: BookingNumber(first),
        claims: [claim(party, slot)].into_iter().collect(),
    };
    let moved = |from, number, claim| Event::Moved {
        from: BookingNumber(from),
        to: NumberedClaim { number: BookingNumber(number), claim },
        by: By::Holder,
    };
    let walked = |number, party| Event::WalkedIn {
        claim: NumberedClaim { number: BookingNumber(number), claim: claim(party, 0) },
    };
    let checked_in = |booking| Event::CheckedIn { booking: BookingNumber(booking) };
    let completed = |booking, doses| Event::Completed {
        booking: BookingNumber(booking),
        given: Given { doses, product: ProductId(0), day: 20_000 },
    };
    let no_show = |booking| Event::NoShow { booking: BookingNumber(booking) };
    let cancelled = |hold, places| Event::GroupCancelled {
        hold: BookingNumber(hold),
        places: Places::new(places).unwrap(),
        by: By::Administration,
    };
    let confirmed = |hold, len| Event::Confirmed { hold: BookingNumber(hold), len };
    let expired = |hold| Event::Expired { hold: BookingNumber(hold), len: 1 };
    let setting = [
        Event::PartiesAdded { first: PartyId(0), count: 9, facts: PartyFacts::default() },
        Event::Published {
            slots: [0, 1]
                .map(|slot| PublishedSlot {
                    slot: SlotId(slot),
                    centre: CentreKey(0),
                    capacity: Units::new(2).unwrap(),
                    // The second begins when all is over.
                    facts: SlotFacts { starts_at: TimestampMs(60 * u64::from(slot)), ..SlotFacts::default() },
                })
                .to_vec(),
            note: Vec::new(),
        },
    ];
    let broken = |events: Vec<Event>| {
        let mut ledger = Ledger::new(WINDOW);
        let at = TimestampMs(50);
        for (seq, event) in (1..).map(Seq).zip(setting.iter().cloned().chain(events)) {
            ledger.apply(seq, &Entry { at, idempotency: None, event });
        }
        let mut rules: Vec<_> = ledger.findings().iter().map(|finding| finding.rule).collect();
        rules.dedup();
        rules
    };
    let none: [&str; 0] = [];
    assert_eq!(broken(vec![held(0, &[0, 1]), confirmed(0, 2), moved(0, 2, claim(0, 1))]), none);
    assert_eq!(broken(vec![booked(0, 0, 0), booked(1, 1, 0), booked(2, 2, 0)]), ["CAP-1"]);
    assert_eq!(broken(vec![held(0, &[0, 1]), confirmed(0, 1)]), ["CAP-3"]);
    assert_eq!(broken(vec![booked(0, 0, 0), booked(1, 0, 1)]), ["PTY-1"]);
    assert_eq!(broken(vec![booked(0, 77, 0)]), ["PTY-1"], "a party that never was");
    assert_eq!(broken(vec![held(0, &[0]), confirmed(0, 1), confirmed(0, 1)]), ["HLD-1"]);
    assert_eq!(broken(vec![held(0, &[0]), expired(0)]), ["HLD-4"], "before its deadline");
    assert_eq!(broken(vec![held(0, &[0]), Event::Cancelled { booking: BookingNumber(0) }]), ["BKG-1"]);
    assert_eq!(broken(vec![booked(0, 0, 0), moved(0, 1, claim(0, 0))]), ["BKG-2"], "to where it is");
    assert_eq!(broken(vec![booked(0, 0, 0), moved(0, 1, claim(1, 1))]), ["BKG-2"], "to somebody else");
    assert_eq!(broken(vec![held(0, &[0, 1]), confirmed(0, 2), cancelled(0, 0b11), booked(2, 0, 0)]), none);
    assert_eq!(broken(vec![held(0, &[0, 1]), confirmed(0, 2), cancelled(1, 0b1)]), ["CAP-3"], "of another hold");
    assert_eq!(broken(vec![held(0, &[0, 1]), cancelled(0, 0b11)]), ["BKG-1"], "not booked yet");
    // The unit of a dose that was given is used up; its party may come for the next.
    let served = [booked(0, 0, 0), checked_in(0), completed(0, 1)];
    assert_eq!(broken([&served[..], &[walked(1, 1), checked_in(1)]].concat()), ["BKG-1"], "checked in twice");
    assert_eq!(broken([&served[..], &[walked(1, 0), completed(1, 1)]].concat()), none);
    assert_eq!(broken([&served[..], &[walked(1, 1), walked(2, 2)]].concat()), ["CAP-1"]);
    assert_eq!(broken(vec![booked(0, 0, 0), completed(0, 1)]), ["DOS-1", "BKG-1"], "never checked in");
    let noted = |booking, doses| {
        let given = Given { doses, product: ProductId(0), day: 20_000 };
        Event::CompletedNoted { booking: BookingNumber(booking), given, note: b"batch".to_vec() }
    };
    assert_eq!(broken(vec![booked(0, 0, 0), noted(0, 1)]), ["DOS-1", "BKG-1"], "never checked in");
    assert_eq!(broken(vec![noted(0, 1)]), ["DOS-1", "BKG-1"], "no booking at all");
    assert_eq!(broken([&served[..], &[noted(0, 2)]].concat()), ["DOS-1", "BKG-1"], "twice");
    assert_eq!(broken(vec![walked(0, 0), noted(0, 1), walked(1, 0)]), none);
    let facts = |party| Event::FactsChanged { party: PartyId(party), facts: PartyFacts::default(), note: Vec::new() };
    assert_eq!(broken(vec![facts(8), Event::Recorded { kind: 1, bytes: vec![1] }]), none);
    assert_eq!(broken(vec![facts(9)]), ["PTY-1"], "a party that never was");
    assert_eq!(broken(vec![walked(0, 0), completed(0, 0)]), ["BKG-1"], "a dose that the facts know nothing of");
    assert_eq!(broken(vec![walked(0, 0), walked(1, 0)]), ["PTY-1"]);
    assert_eq!(broken(vec![booked(0, 0, 0), booked(1, 1, 0), no_show(0), walked(2, 2)]), none);
    assert_eq!(broken(vec![booked(0, 0, 1), no_show(0)]), ["NSH-1"], "before the slot's start");
    assert_eq!(broken(vec![walked(0, 0), no_show(0)]), ["BKG-1"], "who was there is no no-show");
    // A full slot takes no move, though the mover gives back a unit elsewhere.
    assert_eq!(broken(vec![booked(0, 0, 0), booked(1, 1, 1), booked(2, 2, 1), moved(0, 3, claim(0, 1))]), ["CAP-1"]);

    let note = |at, key| Entry {
        at: TimestampMs(at),
        idempotency: Some(Idempotency { key: IdempotencyKey(key), fingerprint: 0 }),
        event: Event::Note { note: Vec::new() },
    };
    let mut ledger = Ledger::new(Duration::from_millis(10));
    ledger.apply(Seq(1), &note(50, 1));
    ledger.apply(Seq(2), &note(49, 2));
    ledger.apply(Seq(3), &note(60, 1));
    assert_eq!(ledger.findings(), [], "entries may lag their neighbours, and a key is free after its window");
    ledger.apply(Seq(4), &note(69, 1));
    assert_eq!(ledger.findings().last().unwrap().rule, "IDM-1");
    ledger.begin_run();
    ledger.apply(Seq(5), &note(68, 3));
    assert_eq!(ledger.findings().last().unwrap().rule, "TIM-1");
    ledger.apply(Seq(7), &note(70, 4));
    assert_eq!(ledger.findings().last().unwrap().rule, "JNL-1");
}
