//! Every fault of a programme file's values, each by its key.

mod certificate;

use std::collections::{BTreeMap, HashSet};

use berth_engine::GROUP_CLAIMS_MAX;
use jiff::tz::TimeZone;
use regex::{Regex, RegexBuilder};

use super::{
    AgeBand, Change, CivilDate, DocumentFile, KeyFault, Mix, Names, PoolFile, ProductFile, ProgrammeFile, WalkIn,
};
use crate::calendar::Calendar;
use crate::invitations::INVITATION_BITS;
use crate::names::{NAME_RULE, is_name};

const WEEK_MINUTES: u32 = 7 * 24 * 60;
const DAY_MINUTES: u32 = 24 * 60;
const SPILL_MINUTES_MAX: u32 = 28 * DAY_MINUTES;
const HOLDS_MAX: u64 = 100;
const GAP_DAYS_MAX: u16 = 3650;
const LIST_LEN_MAX: usize = 200;
/// One bit each in a party's facts.
const COHORTS_MAX: usize = 32;
const LANGUAGES_MAX: usize = 50;
const DOCUMENTS_MAX: usize = 50;
/// One bit each in a band's doses; and a table has a place for each.
pub(crate) const DOSES_MAX: u8 = 10;
const AGE_MAX: u8 = 150;
/// A pattern that compiles to more is no pattern of a number.
const PATTERN_BYTES_MAX: usize = 1 << 16;

impl ProgrammeFile {
    /// Checks every value.
    ///
    /// # Errors
    /// Every fault, not only the first.
    pub fn validate(&self) -> Result<(), Vec<KeyFault>> {
        let mut check = Checker::new(self);
        check.programme();
        check.products();
        check.pools();
        check.cohorts();
        check.age_bands();
        check.mixes();
        check.changes();
        check.papers();
        check.certificate();
        check.waitlist();
        if check.faults.is_empty() { Ok(()) } else { Err(check.faults) }
    }
}

/// The whole of a number as a document's pattern has it.
pub(crate) fn whole(pattern: &str) -> Result<Regex, String> {
    let whole = RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(PATTERN_BYTES_MAX).build();
    // Its message draws the pattern over several lines; the last one says what is wrong.
    whole.map_err(|error| error.to_string().lines().last().unwrap_or_default().trim().to_owned())
}

struct Checker<'f> {
    file: &'f ProgrammeFile,
    products: HashSet<&'f str>,
    pools: HashSet<&'f str>,
    cohorts: HashSet<&'f str>,
    doses_max: u8,
    faults: Vec<KeyFault>,
}

impl<'f> Checker<'f> {
    fn new(file: &'f ProgrammeFile) -> Checker<'f> {
        Checker {
            file,
            products: file.products.iter().map(|product| product.id.as_str()).collect(),
            pools: file.pools.iter().map(|pool| pool.id.as_str()).collect(),
            cohorts: file.cohorts.iter().map(|cohort| cohort.id.as_str()).collect(),
            doses_max: file.products.iter().map(|product| product.doses).max().unwrap_or(0),
            faults: Vec::new(),
        }
    }

    fn fault(&mut self, key: impl Into<String>, reason: impl Into<String>) {
        self.faults.push(KeyFault { key: key.into(), reason: reason.into() });
    }

    fn within(&mut self, key: impl Into<String>, value: impl Into<u64>, min: u64, max: u64) {
        let value = value.into();
        if !(min..=max).contains(&value) {
            self.fault(key, format!("must be from {min} to {max}, is {value}"));
        }
    }

    fn title(&mut self, key: String, text: &str) {
        if text.trim().is_empty() || text.chars().count() > 200 {
            self.fault(key, "must be 1 to 200 characters");
        }
    }

    fn names(&mut self, key: &str, names: &Names) {
        let file = self.file;
        for (language, name) in names {
            let key = format!("{key}.{language}");
            match file.languages.iter().position(|known| known == language) {
                Some(0) => self.fault(key.clone(), "is the language of `name` itself"),
                Some(_) => {}
                None => self.fault(key.clone(), format!("{language:?} is not in languages")),
            }
            self.title(key, name);
        }
    }

    fn identity(&mut self, key: &str, id: &'f str, name: &str, names: &Names, seen: &mut HashSet<&'f str>) {
        if !is_name(id) {
            self.fault(format!("{key}.id"), NAME_RULE);
        } else if !seen.insert(id) {
            self.fault(format!("{key}.id"), format!("{id:?} stands twice"));
        }
        self.title(format!("{key}.name"), name);
        self.names(&format!("{key}.names"), names);
    }

    /// Each of these is one of those, and stands once.
    fn known(&mut self, key: &str, what: &str, ids: &[String], all: &HashSet<&str>) {
        let mut seen = HashSet::new();
        for (i, id) in ids.iter().enumerate() {
            if !all.contains(id.as_str()) {
                self.fault(format!("{key}[{i}]"), format!("{id:?} is not a {what} of this file"));
            } else if !seen.insert(id) {
                self.fault(format!("{key}[{i}]"), format!("{id:?} stands twice"));
            }
        }
    }

    fn known_products(&mut self, key: &str, ids: &[String]) {
        let all = std::mem::take(&mut self.products);
        self.known(key, "product", ids, &all);
        self.products = all;
    }

    fn known_cohorts(&mut self, key: &str, ids: &[String]) {
        let all = std::mem::take(&mut self.cohorts);
        self.known(key, "cohort", ids, &all);
        self.cohorts = all;
    }

    fn product(&mut self, key: String, id: &str) {
        if !self.products.contains(id) {
            self.fault(key, format!("{id:?} is not a product of this file"));
        }
    }

    fn dose(&mut self, key: String, dose: u8, min: u8) {
        let max = self.doses_max;
        if !(min..=max).contains(&dose) {
            self.fault(key, format!("must be a dose of some product, from {min} to {max}, is {dose}"));
        }
    }

    fn gaps(&mut self, key: &str, min: u16, max: u16) {
        self.within(format!("{key}.gap_days_min"), min, 0, GAP_DAYS_MAX.into());
        self.within(format!("{key}.gap_days_max"), max, 0, GAP_DAYS_MAX.into());
        if max != 0 && max < min && min <= GAP_DAYS_MAX {
            self.fault(format!("{key}.gap_days_max"), format!("must not be below gap_days_min, {min}, is {max}"));
        }
    }

    /// A day that 16 bits hold.
    fn day(&mut self, key: String, date: Option<CivilDate>) {
        if let Some(CivilDate(date)) = date
            && Calendar::day_of(date).is_none()
        {
            self.fault(key, format!("must be from 1970-01-01 to 2149-06-06, is {date}"));
        }
    }

    fn programme(&mut self) {
        let file = self.file;
        self.title("name".to_owned(), &file.name);
        self.names("names", &file.names);
        self.within("languages", file.languages.len() as u64, 1, LANGUAGES_MAX as u64);
        let mut seen = HashSet::new();
        for (i, language) in file.languages.iter().enumerate() {
            if !is_language(language) {
                self.fault(
                    format!("languages[{i}]"),
                    format!("must be a language tag as en or pt-BR, is {language:?}"),
                );
            } else if !seen.insert(language) {
                self.fault(format!("languages[{i}]"), format!("{language:?} stands twice"));
            }
        }
        if TimeZone::get(&file.time_zone).is_err() {
            self.fault("time_zone", format!("{:?} is not the name of an IANA time zone", file.time_zone));
        }
        if let Some(currency) = &file.currency
            && !is_capitals(currency, 3)
        {
            self.fault("currency", format!("must be three capital letters, as INR, is {currency:?}"));
        }
        self.within("hold_seconds", file.hold_seconds, 5, 3600);
        self.within("group_claims_max", file.group_claims_max as u64, 1, GROUP_CLAIMS_MAX as u64);
        self.within("booking_horizon_days", file.booking_horizon_days, 1, 365);
        self.within("booking_cutoff_minutes", file.booking_cutoff_minutes, 0, WEEK_MINUTES.into());
        self.within("cancel_cutoff_minutes", file.cancel_cutoff_minutes, 0, WEEK_MINUTES.into());
        self.within("move_cutoff_minutes", file.move_cutoff_minutes.unwrap_or(0), 0, WEEK_MINUTES.into());
        self.within("no_show_grace_minutes", file.no_show_grace_minutes, 0, DAY_MINUTES.into());
        self.within("holds_live_max", file.holds_live_max, 0, HOLDS_MAX);
        self.within("holds_expired_per_hour_max", file.holds_expired_per_hour_max, 0, HOLDS_MAX);
        self.within("members_per_account_max", file.members_per_account_max, 1, 1000);
        self.within("walk_in_share_percent", file.walk_in_share_percent, 0, 100);
        if file.walk_in_share_percent > 0 && file.pools.iter().all(|pool| pool.walk_in != WalkIn::Only) {
            self.fault("walk_in_share_percent", "needs a pool with walk_in = \"only\"");
        }
    }

    fn products(&mut self) {
        let products = &self.file.products;
        self.within("products", products.len() as u64, 1, LIST_LEN_MAX as u64);
        let mut seen = HashSet::new();
        for (i, product) in products.iter().enumerate() {
            let key = format!("products[{i}]");
            let ProductFile { id, name, names, doses, gap_days_min, gap_days_max, schedule, manufacturer, codes } =
                product;
            self.maker_and_codes(&key, manufacturer.as_deref(), codes);
            self.identity(&key, id, name, names, &mut seen);
            self.within(format!("{key}.doses"), *doses, 1, DOSES_MAX.into());
            self.gaps(&key, *gap_days_min, *gap_days_max);
            let mut steps = HashSet::new();
            for (j, step) in schedule.iter().enumerate() {
                let key = format!("{key}.schedule[{j}]");
                if !(2..=*doses).contains(&step.dose) {
                    let reason = format!("must be a dose of the product that follows another, is {}", step.dose);
                    self.fault(format!("{key}.dose"), reason);
                } else if !steps.insert(step.dose) {
                    self.fault(format!("{key}.dose"), format!("dose {} stands twice", step.dose));
                }
                let (min, max) =
                    (step.gap_days_min.unwrap_or(*gap_days_min), step.gap_days_max.unwrap_or(*gap_days_max));
                self.gaps(&key, min, max);
            }
        }
    }

    fn pools(&mut self) {
        let pools = &self.file.pools;
        self.within("pools", pools.len() as u64, 1, LIST_LEN_MAX as u64);
        let mut seen = HashSet::new();
        for (i, pool) in pools.iter().enumerate() {
            let key = format!("pools[{i}]");
            let PoolFile { id, name, names, dose, walk_in: _, cohorts, invitation: _, spills_to, spill_minutes_before } =
                pool;
            self.identity(&key, id, name, names, &mut seen);
            if let Some(dose) = *dose {
                self.dose(format!("{key}.dose"), dose, 1);
            }
            self.known_cohorts(&format!("{key}.cohorts"), cohorts);
            if let Some(to) = spills_to {
                if !self.pools.contains(to.as_str()) {
                    self.fault(format!("{key}.spills_to"), format!("{to:?} is not a pool of this file"));
                } else if spills_into_itself(pools, id) {
                    self.fault(format!("{key}.spills_to"), "leads back to the pool itself");
                } else if pools.iter().any(|pool| pool.id == *to && pool.invitation) {
                    let reason = format!("{to:?} is for who was invited to it: its people have no other units");
                    self.fault(format!("{key}.spills_to"), reason);
                }
            }
            match (spills_to, *spill_minutes_before) {
                (Some(_), Some(minutes)) => {
                    self.within(format!("{key}.spill_minutes_before"), minutes, 0, SPILL_MINUTES_MAX.into());
                }
                (Some(_), None) => self.fault(format!("{key}.spill_minutes_before"), "is missing: there is spills_to"),
                (None, Some(_)) => self.fault(format!("{key}.spills_to"), "is missing: there is spill_minutes_before"),
                (None, None) => {}
            }
        }
    }

    fn cohorts(&mut self) {
        let cohorts = &self.file.cohorts;
        self.within("cohorts", cohorts.len() as u64, 0, COHORTS_MAX as u64);
        let invitations = self.file.pools.iter().filter(|pool| pool.invitation).count();
        let left = COHORTS_MAX.saturating_sub(cohorts.len()) / INVITATION_BITS as usize;
        if invitations > left && cohorts.len() <= COHORTS_MAX {
            let reason =
                format!("with {} cohorts {left} pools may have invitation = true, {invitations} have", cohorts.len());
            self.fault("pools", reason);
        }
        let mut seen = HashSet::new();
        for (i, cohort) in cohorts.iter().enumerate() {
            let key = format!("cohorts[{i}]");
            self.identity(&key, &cohort.id, &cohort.name, &cohort.names, &mut seen);
            self.day(format!("{key}.opens"), cohort.opens);
        }
    }

    fn age_bands(&mut self) {
        let bands = &self.file.age_bands;
        self.within("age_bands", bands.len() as u64, 0, LIST_LEN_MAX as u64);
        for (i, band) in bands.iter().enumerate() {
            let key = format!("age_bands[{i}]");
            let AgeBand { from, until, books_from, age_min, age_max, products, doses, cohorts } = band;
            self.day(format!("{key}.from"), *from);
            self.day(format!("{key}.until"), *until);
            self.day(format!("{key}.books_from"), books_from.map(|time| CivilDate(time.0.date())));
            if let (Some(from), Some(until)) = (from, until)
                && until < from
            {
                self.fault(format!("{key}.until"), format!("must not be before from, {from}"));
            }
            if let (Some(from), Some(books_from)) = (from, books_from)
                && books_from.0.date() > from.0
            {
                self.fault(format!("{key}.books_from"), format!("must not be after the first day of a visit, {from}"));
            }
            for (field, age) in [("age_min", age_min), ("age_max", age_max)] {
                self.within(format!("{key}.{field}"), age.unwrap_or(0), 0, AGE_MAX.into());
            }
            if let (Some(min), Some(max)) = (age_min, age_max)
                && max < min
            {
                self.fault(format!("{key}.age_max"), format!("must not be below age_min, {min}, is {max}"));
            }
            self.known_products(&format!("{key}.products"), products);
            self.known_cohorts(&format!("{key}.cohorts"), cohorts);
            for (j, &dose) in doses.iter().enumerate() {
                self.dose(format!("{key}.doses[{j}]"), dose, 1);
            }
        }
    }

    fn mixes(&mut self) {
        let mixes = &self.file.mixes;
        self.within("mixes", mixes.len() as u64, 0, LIST_LEN_MAX as u64);
        for (i, mix) in mixes.iter().enumerate() {
            let key = format!("mixes[{i}]");
            self.product(format!("{key}.after"), &mix.after);
            self.product(format!("{key}.product"), &mix.product);
            if mix.after == mix.product {
                self.fault(format!("{key}.product"), "is the same as after: it needs no exception");
            }
            for (j, &dose) in mix.doses.iter().enumerate() {
                self.dose(format!("{key}.doses[{j}]"), dose, 2);
            }
            self.day(format!("{key}.from"), mix.from);
            self.gaps(&key, mix.gap_days_min.unwrap_or(0), mix.gap_days_max.unwrap_or(0));
            self.mix_keeps_the_gap(&key, mix);
            if let Some(other) = mixes[..i].iter().position(|other| other.says_the_same(mix)) {
                self.fault(key, format!("is for products, a dose and a day that mixes[{other}] is for already"));
            }
        }
    }

    /// With a last day of its own, and the first day of the product.
    fn mix_keeps_the_gap(&mut self, key: &str, mix: &Mix) {
        let product = self.file.products.iter().find(|product| product.id == mix.product);
        let (Some(product), None, Some(max)) = (product, mix.gap_days_min, mix.gap_days_max) else { return };
        let doses = (2..=product.doses).filter(|dose| mix.doses.is_empty() || mix.doses.contains(dose));
        let first = doses.map(|dose| product.gap(dose).0).max().unwrap_or(0);
        if max != 0 && max < first {
            let reason = format!("must not be below the product's own gap_days_min, {first}, is {max}");
            self.fault(format!("{key}.gap_days_max"), reason);
        }
    }

    fn waitlist(&mut self) {
        let Some(waitlist) = self.file.waitlist else { return };
        self.within("waitlist.offer_minutes", waitlist.offer_minutes, 1, WEEK_MINUTES.into());
        if let Some(minutes) = waitlist.offer_minutes_on_the_day {
            self.within("waitlist.offer_minutes_on_the_day", minutes, 1, DAY_MINUTES.into());
            if minutes > waitlist.offer_minutes {
                self.fault("waitlist.offer_minutes_on_the_day", "is more than offer_minutes");
            }
        }
        let cutoff = waitlist.cutoff_minutes_before_end;
        self.within("waitlist.cutoff_minutes_before_end", cutoff, 0, WEEK_MINUTES.into());
        self.within("waitlist.offers_max", waitlist.offers_max, 1, 20);
        self.within("waitlist.entries_per_party_max", waitlist.entries_per_party_max, 1, 20);
        self.within("waitlist.days_max", waitlist.days_max, 1, 365);
    }

    fn changes(&mut self) {
        let changes = &self.file.changes;
        self.within("changes", changes.len() as u64, 0, LIST_LEN_MAX as u64);
        // What stands before each change, so that one that moves only one end of a gap is judged with the other.
        let mut gaps: BTreeMap<(&str, u8), (u16, u16)> = BTreeMap::new();
        for product in &self.file.products {
            gaps.extend((2..=product.doses).map(|dose| ((product.id.as_str(), dose), product.gap(dose))));
        }
        let mut last = None;
        for (i, change) in changes.iter().enumerate() {
            let key = format!("changes[{i}]");
            self.day(format!("{key}.from"), Some(change.from));
            if last.is_some_and(|last| change.from <= last) {
                self.fault(format!("{key}.from"), "must be after that of the change above it");
            }
            last = Some(change.from);
            if let Some(note) = &change.note {
                self.title(format!("{key}.note"), note);
            }
            if change.is_empty() {
                self.fault(key.clone(), "changes nothing");
            }
            let minutes = |value: Option<u32>| u64::from(value.unwrap_or(0));
            self.within(format!("{key}.booking_horizon_days"), change.booking_horizon_days.unwrap_or(1), 1, 365);
            for (field, value, max) in [
                ("booking_cutoff_minutes", change.booking_cutoff_minutes, WEEK_MINUTES),
                ("cancel_cutoff_minutes", change.cancel_cutoff_minutes, WEEK_MINUTES),
                ("move_cutoff_minutes", change.move_cutoff_minutes, WEEK_MINUTES),
                ("no_show_grace_minutes", change.no_show_grace_minutes, DAY_MINUTES),
            ] {
                self.within(format!("{key}.{field}"), minutes(value), 0, max.into());
            }
            for (j, gap) in change.products.iter().enumerate() {
                let key = format!("{key}.products[{j}]");
                self.product(format!("{key}.id"), &gap.id);
                if gap.gap_days_min.is_none() && gap.gap_days_max.is_none() {
                    self.fault(key.clone(), "changes nothing: give gap_days_min or gap_days_max");
                }
                if let Some(dose) = gap.dose {
                    self.dose(format!("{key}.dose"), dose, 2);
                }
                let before = self.faults.len();
                for (_, now) in gaps.iter_mut().filter(|&(&(id, dose), _)| gap.is_for(id, dose)) {
                    *now = (gap.gap_days_min.unwrap_or(now.0), gap.gap_days_max.unwrap_or(now.1));
                    // Of the doses that it changes one fault is enough.
                    if self.faults.len() == before {
                        self.gaps(&key, now.0, now.1);
                    }
                }
            }
        }
    }

    fn papers(&mut self) {
        let documents = &self.file.documents;
        self.within("documents", documents.len() as u64, 0, DOCUMENTS_MAX as u64);
        let mut seen = HashSet::new();
        for (i, document) in documents.iter().enumerate() {
            let key = format!("documents[{i}]");
            let DocumentFile { id, name, names, pattern, example } = document;
            self.identity(&key, id, name, names, &mut seen);
            match whole(pattern) {
                Err(reason) => self.fault(format!("{key}.pattern"), format!("is no pattern: {reason}")),
                Ok(whole) => {
                    if let Some(example) = example
                        && !whole.is_match(&crate::programme::plain_number(example))
                    {
                        self.fault(format!("{key}.example"), format!("{example:?} does not fit the pattern"));
                    }
                }
            }
        }
    }
}

impl Mix {
    /// Whether both are for the same products and day, and for some dose that both name.
    fn says_the_same(&self, other: &Mix) -> bool {
        let shared = self.doses.iter().any(|dose| other.doses.contains(dose));
        let of_a_dose = self.doses.is_empty() || other.doses.is_empty() || shared;
        of_a_dose && self.after == other.after && self.product == other.product && self.from == other.from
    }
}

impl Change {
    fn is_empty(&self) -> bool {
        let scalars = [
            self.booking_horizon_days.is_some(),
            self.booking_cutoff_minutes.is_some(),
            self.cancel_cutoff_minutes.is_some(),
            self.move_cutoff_minutes.is_some(),
            self.no_show_grace_minutes.is_some(),
            self.doses_in_order.is_some(),
            self.same_product.is_some(),
        ];
        self.products.is_empty() && !scalars.contains(&true)
    }
}

fn is_capitals(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| b.is_ascii_uppercase())
}

/// The shape of BCP 47: `en`, `pt-BR`, `zh-Hant`.
fn is_language(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let first =
        parts.next().is_some_and(|part| (2..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_lowercase()));
    first && parts.all(|part| (2..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Whether the spills from a pool on come back to it. Those that run into another pool's circle are that one's fault.
fn spills_into_itself(pools: &[PoolFile], start: &str) -> bool {
    let next = |id: &str| pools.iter().find(|pool| pool.id == id)?.spills_to.as_deref();
    let mut at = next(start);
    for _ in 0..pools.len() {
        match at {
            Some(id) if id == start => return true,
            Some(id) => at = next(id),
            None => return false,
        }
    }
    false
}
