//! One-time codes: by which somebody shows that a phone is theirs.
//!
//! In memory alone: a code lives for minutes, and after a restart another is asked for. A code is kept as a digest keyed with its phone's
//! print, under a key of this run. Whoever asks is told the same whether the phone is known here or not. What can be asked is bounded for
//! each phone, and for all together: each message costs money, and somebody will try to make the campaign spend it.
// rule: PPL-5 a code opens once, and what may be asked is bounded

use std::collections::HashMap;
use std::io;

use berth_engine::TimestampMs;
use parking_lot::Mutex;
use ring::hmac;

use super::master::{MasterKey, Print, Prints, random};
use super::record::Phone;

const HOUR_MS: u64 = 3_600_000;
const MINUTE_MS: u64 = 60_000;
const SHARDS: usize = 64;
/// Codes of one phone that open.
const OPEN_MAX: usize = 2;
/// How often a shard is rid of phones that nobody asks for any more.
const SWEEP_EVERY_MS: u64 = 60_000;

/// What may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeLimits {
    /// How long a code opens.
    pub life_ms: u64,
    /// Wrong codes that are looked at for each.
    pub tries_max: u8,
    /// Codes sent to one phone within an hour.
    pub per_phone_per_hour_max: usize,
    /// Codes asked for and wrong codes said from one address within an hour.
    pub per_address_per_hour_max: u32,
    /// Codes sent within a minute, to all phones.
    pub per_minute_max: u32,
    /// Wrong codes that are looked at within a minute, of all phones that wait for one: from a thousand addresses at once somebody would
    /// be guessed.
    pub wrong_per_minute_max: u32,
}

/// A code on its way to its phone.
pub struct Sent {
    /// Six digits.
    pub code: String,
    /// Until when it opens.
    pub until: TimestampMs,
}

/// Why no code is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeRefusal {
    /// Too many to this phone, or to all together.
    TooMany {
        /// When the next may be asked for.
        again: TimestampMs,
        /// What was met.
        limit: CodeLimit,
    },
}

/// Which limit was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeLimit {
    /// Of this phone.
    Phone,
    /// Of this address.
    Address,
    /// Of all together.
    All,
    /// Of wrong codes, of all together.
    Wrong,
}

/// Whence somebody asks; of a network that is one client's, the network.
pub type Address = [u8; 16];

/// What is remembered of a phone.
#[derive(Default)]
struct Asked {
    /// The last two that were sent, the older first: a message may be on its way while the next is asked for, by whomever.
    codes: Vec<Pending>,
    /// When codes were sent within the last hour.
    sent: Vec<u64>,
}

struct Pending {
    digest: hmac::Tag,
    until: u64,
    tries_left: u8,
}

impl Pending {
    fn is_open(&self, now: TimestampMs) -> bool {
        now.0 < self.until && self.tries_left > 0
    }
}

/// What a code that was said is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Right,
    Wrong,
    /// The phone waits for none: nothing could have been guessed.
    Idle,
}

#[derive(Default)]
struct Shard {
    phones: HashMap<Print, Asked>,
    swept: u64,
}

/// Everybody who was sent a code.
pub struct CodeDesk {
    limits: CodeLimits,
    prints: Prints,
    /// Of this run: what is in memory is worth nothing after it.
    key: hmac::Key,
    shards: [Mutex<Shard>; SHARDS],
    /// By address: the hour, and what was asked and said wrong in it.
    addresses: Mutex<(u64, HashMap<Address, u32>)>,
    /// Minute, and codes sent in it.
    minute: Mutex<(u64, u32)>,
    /// Minute, and wrong codes said in it.
    wrong: Mutex<(u64, u32)>,
}

impl CodeDesk {
    /// A desk at which nobody has asked.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(master: &MasterKey, limits: CodeLimits) -> io::Result<CodeDesk> {
        let key: [u8; 32] = random()?;
        Ok(CodeDesk {
            limits,
            prints: Prints::new(master, "codes"),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            shards: std::array::from_fn(|_| Mutex::default()),
            addresses: Mutex::new((0, HashMap::new())),
            minute: Mutex::new((0, 0)),
            wrong: Mutex::new((0, 0)),
        })
    }

    /// What may be asked.
    #[must_use]
    pub fn limits(&self) -> CodeLimits {
        self.limits
    }

    fn shard(&self, print: &Print) -> &Mutex<Shard> {
        &self.shards[usize::from(print[0]) % SHARDS]
    }

    fn digest(&self, print: &Print, code: &str) -> hmac::Tag {
        hmac::sign(&self.key, &[&print[..], code.as_bytes()].concat())
    }

    /// One more from this address, unless it has had as many as it may; what it has had is forgotten with the hour.
    fn count_address(&self, address: Address, now: TimestampMs, counts: bool) -> Result<(), CodeRefusal> {
        let mut addresses = self.addresses.lock();
        let hour = now.0 / HOUR_MS;
        if addresses.0 != hour {
            *addresses = (hour, HashMap::new());
        }
        let had = addresses.1.get(&address).copied().unwrap_or(0);
        if had >= self.limits.per_address_per_hour_max {
            let again = TimestampMs((hour + 1) * HOUR_MS);
            return Err(CodeRefusal::TooMany { again, limit: CodeLimit::Address });
        }
        if counts {
            addresses.1.insert(address, had + 1);
        }
        Ok(())
    }

    /// A code for this phone, to be sent to it and to nobody else. The one before it opens as well, and those before that nothing any more.
    ///
    /// # Errors
    /// `Err(Ok(..))`: too many were asked for. `Err(Err(..))`: the system gives no random bytes.
    pub fn ask(&self, phone: &Phone, from: Address, now: TimestampMs) -> Result<Sent, Result<CodeRefusal, io::Error>> {
        let print = self.prints.of(&[phone.as_str().as_bytes()]);
        let code = six_digits().map_err(Err)?;
        // First: who asks for many phones uses up nothing that is everybody's.
        self.count_address(from, now, true).map_err(Ok)?;
        let mut shard = self.shard(&print).lock();
        if now.0.saturating_sub(shard.swept) > SWEEP_EVERY_MS {
            shard.swept = now.0;
            shard.phones.retain(|_, asked| asked.sent.iter().any(|at| now.0.saturating_sub(*at) < HOUR_MS));
        }
        let sent = shard.phones.get(&print).map_or(&[][..], |asked| &asked.sent);
        let within: Vec<u64> = sent.iter().copied().filter(|at| now.0.saturating_sub(*at) < HOUR_MS).collect();
        if within.len() >= self.limits.per_phone_per_hour_max {
            let again = TimestampMs(within.first().map_or(now.0, |first| first + HOUR_MS));
            return Err(Ok(CodeRefusal::TooMany { again, limit: CodeLimit::Phone }));
        }
        self.count(now).map_err(Ok)?;
        let until = now.0.saturating_add(self.limits.life_ms);
        let asked = shard.phones.entry(print).or_default();
        asked.sent = within;
        asked.sent.push(now.0);
        let digest = self.digest(&print, &code);
        asked.codes.retain(|pending| pending.is_open(now));
        if asked.codes.len() == OPEN_MAX {
            asked.codes.remove(0);
        }
        asked.codes.push(Pending { digest, until, tries_left: self.limits.tries_max });
        Ok(Sent { code, until: TimestampMs(until) })
    }

    /// One more of this minute's.
    fn count(&self, now: TimestampMs) -> Result<(), CodeRefusal> {
        within_minute(&self.minute, self.limits.per_minute_max, CodeLimit::All, now)
    }

    /// Whether this is a code of the phone's. Each opens once; a wrong one is counted, and after so many none is looked at until another is
    /// sent.
    ///
    /// # Errors
    /// Too many wrong ones came from this address, or from all together.
    pub fn opens(&self, phone: &Phone, code: &str, from: Address, now: TimestampMs) -> Result<bool, CodeRefusal> {
        self.count_address(from, now, false)?;
        let said = self.say(phone, code, now)?;
        if said != Said::Right {
            self.count_address(from, now, true)?;
        }
        Ok(said == Said::Right)
    }

    fn say(&self, phone: &Phone, code: &str, now: TimestampMs) -> Result<Said, CodeRefusal> {
        let print = self.prints.of(&[phone.as_str().as_bytes()]);
        let mut shard = self.shard(&print).lock();
        let Some(asked) = shard.phones.get_mut(&print) else { return Ok(Said::Idle) };
        asked.codes.retain(|pending| pending.is_open(now));
        if asked.codes.is_empty() {
            return Ok(Said::Idle);
        }
        // Before it is looked at: past the limit nobody learns whether a guess was right. It is given back to who did not guess.
        within_minute(&self.wrong, self.limits.wrong_per_minute_max, CodeLimit::Wrong, now)?;
        let text = [&print[..], code.as_bytes()].concat();
        // In constant time, by the digest.
        let right = |pending: &Pending| hmac::verify(&self.key, &text, pending.digest.as_ref()).is_ok();
        if let Some(at) = asked.codes.iter().position(right) {
            asked.codes.remove(at);
            let mut wrong = self.wrong.lock();
            wrong.1 = wrong.1.saturating_sub(1);
            return Ok(Said::Right);
        }
        asked.codes.iter_mut().for_each(|pending| pending.tries_left -= 1);
        Ok(Said::Wrong)
    }
}

/// One more of this minute's, unless it has had as many as it may.
fn within_minute(count: &Mutex<(u64, u32)>, max: u32, limit: CodeLimit, now: TimestampMs) -> Result<(), CodeRefusal> {
    let mut minute = count.lock();
    let this = now.0 / MINUTE_MS;
    if minute.0 != this {
        *minute = (this, 0);
    }
    if minute.1 >= max {
        return Err(CodeRefusal::TooMany { again: TimestampMs((this + 1) * MINUTE_MS), limit });
    }
    minute.1 += 1;
    Ok(())
}

/// Each of a million alike.
fn six_digits() -> io::Result<String> {
    const MILLION: u32 = 1_000_000;
    // The top of the range would make some more likely than others.
    const FAIR: u32 = u32::MAX - u32::MAX % MILLION;
    loop {
        let number = u32::from_le_bytes(random()?);
        if number < FAIR {
            return Ok(format!("{:06}", number % MILLION));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CodeLimits = CodeLimits {
        life_ms: 180_000,
        tries_max: 3,
        per_phone_per_hour_max: 2,
        per_address_per_hour_max: 9,
        per_minute_max: 4,
        wrong_per_minute_max: 100,
    };
    const NOW: TimestampMs = TimestampMs(1_000_000_000_000 - 1_000_000_000_000 % 60_000);

    const HERE: Address = [1; 16];

    fn desk() -> CodeDesk {
        CodeDesk::new(&MasterKey::new(&[1; 32]), LIMITS).unwrap()
    }

    fn phone(last: u8) -> Phone {
        Phone::parse(&format!("+9198765432{last:02}"), None).unwrap()
    }

    fn wrong(code: &str) -> String {
        format!("{:06}", (code.parse::<u32>().unwrap() + 1) % 1_000_000)
    }

    fn after(ms: u64) -> TimestampMs {
        TimestampMs(NOW.0 + ms)
    }

    // rule: PPL-5
    #[test]
    fn a_code_opens_once_for_its_phone_until_it_expires() {
        let desk = desk();
        let sent = desk.ask(&phone(1), HERE, NOW).ok().unwrap();
        assert_eq!((sent.code.len(), sent.until), (6, after(180_000)));
        assert!(!desk.opens(&phone(2), &sent.code, HERE, NOW).unwrap(), "another phone");
        assert!(desk.opens(&phone(1), &sent.code, HERE, after(179_999)).unwrap());
        assert!(!desk.opens(&phone(1), &sent.code, HERE, NOW).unwrap(), "once");
        let second = desk.ask(&phone(1), HERE, NOW).ok().unwrap();
        assert!(!desk.opens(&phone(1), &second.code, HERE, second.until).unwrap(), "expired");
    }

    // rule: PPL-5
    #[test]
    fn wrong_codes_are_counted_and_after_so_many_another_must_be_sent() {
        let desk = desk();
        let first = desk.ask(&phone(1), HERE, NOW).ok().unwrap();
        for _ in 0..LIMITS.tries_max {
            assert!(!desk.opens(&phone(1), &wrong(&first.code), HERE, NOW).unwrap());
        }
        assert!(!desk.opens(&phone(1), &first.code, HERE, NOW).unwrap(), "too many wrong ones");
        let second = desk.ask(&phone(1), HERE, NOW).ok().unwrap();
        assert!(first.code == second.code || !desk.opens(&phone(1), &first.code, HERE, NOW).unwrap());
        assert!(desk.opens(&phone(1), &second.code, HERE, NOW).unwrap());
    }

    // rule: PPL-5
    #[test]
    fn the_last_two_codes_open_each_once_whoever_asked_for_the_newer() {
        let limits = CodeLimits { per_phone_per_hour_max: 9, per_minute_max: 9, ..LIMITS };
        let desk = CodeDesk::new(&MasterKey::new(&[1; 32]), limits).unwrap();
        let ask = || desk.ask(&phone(1), HERE, NOW).ok().unwrap().code;
        let opens = |code: &str| desk.opens(&phone(1), code, HERE, NOW).unwrap();
        let sent = loop {
            let sent = [ask(), ask()];
            if sent[0] != sent[1] {
                break sent;
            }
        };
        assert!(opens(&sent[0]) && !opens(&sent[0]) && opens(&sent[1]) && !opens(&sent[1]));
        let sent = [ask(), ask(), ask()];
        assert!(sent[1..].contains(&sent[0]) || !opens(&sent[0]), "the third is too many");
        assert!(opens(&sent[2]) && opens(&sent[1]));
    }

    // rule: PPL-5
    #[test]
    fn wrong_codes_of_all_phones_together_are_bounded_and_those_who_wait_for_none_trip_nothing() {
        let limits = CodeLimits { wrong_per_minute_max: 3, per_address_per_hour_max: 99, ..LIMITS };
        let desk = CodeDesk::new(&MasterKey::new(&[1; 32]), limits).unwrap();
        let sent = [1, 2, 3].map(|last| desk.ask(&phone(last), HERE, NOW).ok().unwrap().code);
        for _ in 0..9 {
            assert_eq!(desk.opens(&phone(9), "000000", HERE, NOW), Ok(false), "nobody waits for a code there");
        }
        assert_eq!(desk.opens(&phone(3), &sent[2], HERE, NOW), Ok(true), "a right one is no guess");
        for (at, last) in [(0, 1), (1, 2), (0, 1)] {
            assert_eq!(desk.opens(&phone(last), &wrong(&sent[at]), [last; 16], NOW), Ok(false));
        }
        let next = TimestampMs(NOW.0 + MINUTE_MS);
        let refused = Err(CodeRefusal::TooMany { again: next, limit: CodeLimit::Wrong });
        assert_eq!(desk.opens(&phone(2), &sent[1], [7; 16], NOW), refused, "nor is a right one looked at");
        assert_eq!(desk.opens(&phone(2), &sent[1], [7; 16], next), Ok(true));
    }

    // rule: PPL-5
    #[test]
    fn what_may_be_asked_is_bounded_for_a_phone_and_for_all() {
        let desk = desk();
        let ask = |last, at| desk.ask(&phone(last), HERE, at).map(|_| ()).map_err(|refused| refused.ok().unwrap());
        assert_eq!((ask(1, NOW), ask(1, after(1))), (Ok(()), Ok(())));
        let again = after(HOUR_MS);
        assert_eq!(ask(1, after(2)), Err(CodeRefusal::TooMany { again, limit: CodeLimit::Phone }));
        assert_eq!((ask(2, after(3)), ask(3, after(4))), (Ok(()), Ok(())));
        let next = TimestampMs(NOW.0 + MINUTE_MS);
        assert_eq!(ask(4, after(5)), Err(CodeRefusal::TooMany { again: next, limit: CodeLimit::All }));
        assert_eq!(ask(4, next), Ok(()));
        assert_eq!(ask(1, again), Ok(()), "an hour later");
        let _ = ask(5, after(2 * HOUR_MS));
        let kept: usize = desk.shards.iter().map(|shard| shard.lock().phones.len()).sum();
        assert!(kept <= 5);
    }

    // rule: PPL-5
    #[test]
    fn one_address_shuts_nobody_else_out() {
        let limits = CodeLimits { per_address_per_hour_max: 3, ..LIMITS };
        let desk = CodeDesk::new(&MasterKey::new(&[1; 32]), limits).unwrap();
        let sent = desk.ask(&phone(1), HERE, NOW).ok().unwrap();
        for _ in 0..2 {
            assert_eq!(desk.opens(&phone(2), "000000", HERE, NOW), Ok(false));
        }
        let again = TimestampMs((NOW.0 / HOUR_MS + 1) * HOUR_MS);
        let refused = CodeRefusal::TooMany { again, limit: CodeLimit::Address };
        assert_eq!(desk.ask(&phone(3), HERE, NOW).map(|_| ()).map_err(|no| no.ok().unwrap()), Err(refused));
        assert_eq!(desk.opens(&phone(1), &sent.code, HERE, NOW), Err(refused), "nor does it guess on");
        assert_eq!(desk.opens(&phone(1), &sent.code, [2; 16], NOW), Ok(true), "from elsewhere all is as it was");
        assert!(desk.ask(&phone(4), HERE, again).is_ok());
    }
}
