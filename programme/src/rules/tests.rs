//! The rules one by one, on the shipped programme of India and on small changes of it.

use super::*;
use berth_engine::{PoolId, ProductId};
use jiff::civil::{Date, date, time};

fn india() -> Programme {
    Programme::from_toml(include_str!("../../../programmes/india-2021.toml")).unwrap()
}

fn slot(programme: &Programme, dose: u8) -> SlotFacts {
    let starts_at = programme.calendar().instant(date(2026, 11, 24), time(9, 0, 0, 0)).unwrap();
    SlotFacts { programme: PROGRAMME, dose: Dose(dose), product: ProductId(1), pool: PoolId(1), starts_at }
}

fn rule(programme: &Programme, slot: &SlotFacts, dose: u8, now: TimestampMs) -> Option<&'static str> {
    programme.may_claim(&PartyFacts::default(), slot, Dose(dose), now).err().map(|r| r.rule)
}

#[test]
fn a_pool_serves_its_dose_and_a_product_its_course() {
    let india = india();
    let (first, any) = (slot(&india, 1), slot(&india, 0));
    let now = TimestampMs(first.starts_at.0 - DAY_MS);
    assert_eq!(rule(&india, &first, 1, now), None);
    assert_eq!(rule(&india, &first, 2, now), Some(POOL_DOSE));
    assert_eq!(rule(&india, &any, 2, now), Some(DOSE_ORDER));
    assert_eq!(rule(&india, &any, 3, now), Some(COURSE_DOSES));
    assert_eq!(rule(&india, &any, 0, now), Some(COURSE_DOSES));
    let unknown = SlotFacts { product: ProductId(99), ..any };
    assert_eq!(rule(&india, &unknown, 1, now), Some(COURSE_DOSES));
}

#[test]
fn a_dose_is_given_once_in_its_turn_and_not_too_soon() {
    let india = india();
    let any = slot(&india, 0);
    let now = TimestampMs(any.starts_at.0 - DAY_MS);
    let asked = |doses, last_dose_day, dose| {
        let party = PartyFacts { doses, last_dose_day, ..PartyFacts::default() };
        india.may_claim(&party, &any, Dose(dose), now).err()
    };
    let day = india.calendar().day(any.starts_at);
    assert_eq!(asked(1, day - 84, 1).unwrap().rule, DOSE_GIVEN);
    assert_eq!(asked(0, 0, 2).unwrap().rule, DOSE_ORDER);
    assert_eq!(asked(1, day - 84, 2), None);
    let midnight = india.calendar().midnight_before(any.starts_at, 0);
    let from = TimestampMs(midnight.0 + DAY_MS);
    assert_eq!(asked(1, day - 83, 2), Some(PolicyRefusal { rule: DOSE_GAP, from: Some(from) }));

    let loose =
        include_str!("../../../programmes/india-2021.toml").replace("doses_in_order = true", "doses_in_order = false");
    let loose = Programme::from_toml(&loose).unwrap();
    assert_eq!(rule(&loose, &any, 2, now), None);
    let given = india.given(&PartyFacts::default(), &any, Dose(1), any.starts_at);
    assert_eq!(given, Given { doses: 1, product: ProductId(1), day });
    let party = PartyFacts::default().after(given);
    assert_eq!(india.may_claim(&party, &any, Dose(1), now).unwrap_err().rule, DOSE_GIVEN);
}

// rule: WLK-1
#[test]
fn the_door_is_open_on_the_day_in_pools_that_say_so() {
    let text = include_str!("../../../programmes/india-2021.toml");
    let india = india();
    let any = SlotFacts { pool: PoolId(3), ..slot(&india, 0) };
    let midnight = india.calendar().midnight_before(any.starts_at, 0);
    let asked = |now: u64, dose| {
        india.may_walk_in(&PartyFacts::default(), &any, Dose(dose), TimestampMs(now)).err().map(|no| no.rule)
    };
    // Neither the cut-off nor the horizon binds, the day does.
    assert_eq!(asked(any.starts_at.0 + 3_600_000, 1), None);
    assert_eq!(asked(midnight.0, 1), None);
    assert_eq!(asked(midnight.0 - 1, 1), Some(WALK_IN_DAY));
    assert_eq!(asked(midnight.0 + DAY_MS, 1), Some(WALK_IN_DAY));
    assert_eq!(asked(midnight.0, 2), Some(DOSE_ORDER));
    let shut = Programme::from_toml(&text.replace("walk_in = true", "walk_in = false")).unwrap();
    let refused = shut.may_walk_in(&PartyFacts::default(), &any, Dose(1), any.starts_at).unwrap_err();
    assert_eq!(refused.rule, WALK_IN_POOL);

    assert_eq!(india.may_check_in(&any, midnight), Ok(()));
    let early = PolicyRefusal { rule: CHECK_IN_DAY, from: Some(midnight) };
    assert_eq!(india.may_check_in(&any, TimestampMs(midnight.0 - 1)), Err(early));
}

// rule: NSH-1
#[test]
fn who_is_late_has_the_grace() {
    let india = india();
    let slot = slot(&india, 1);
    let from = TimestampMs(slot.starts_at.0 + 30 * 60_000);
    assert_eq!(india.may_be_no_show(&slot, from), Ok(()));
    let early = PolicyRefusal { rule: NO_SHOW_GRACE, from: Some(from) };
    assert_eq!(india.may_be_no_show(&slot, TimestampMs(from.0 - 1)), Err(early));
}

// rule: HLD-2
#[test]
fn the_limits_on_holds_are_the_files() {
    let limits = HoldLimits { live_max: 2, expired_per_hour_max: 5 };
    assert_eq!(india().hold_limits(), limits);
    let text = include_str!("../../../programmes/india-2021.toml");
    let without = text.replace("holds_live_max = 2\n", "").replace("holds_expired_per_hour_max = 5\n", "");
    assert_eq!(Programme::from_toml(&without).unwrap().hold_limits(), limits, "the defaults");
    let none = text.replace("holds_live_max = 2", "holds_live_max = 0");
    assert_eq!(Programme::from_toml(&none).unwrap().hold_limits().live_max, 0);
}

#[test]
fn the_administration_moves_whom_it_must() {
    let india = india();
    let slot = slot(&india, 1);
    let late = TimestampMs(slot.starts_at.0 + 1);
    assert_eq!(india.may_be_moved(&PartyFacts::default(), &slot, Dose(1), late), Ok(()));
    assert_eq!(india.may_be_moved(&PartyFacts::default(), &slot, Dose(2), late).unwrap_err().rule, POOL_DOSE);
}

#[test]
fn the_horizon_opens_at_midnight_of_its_day() {
    let india = india();
    let slot = slot(&india, 1);
    let opens = india.calendar().instant(date(2026, 10, 27), time(0, 0, 0, 0)).unwrap();
    let refused = india.may_claim(&PartyFacts::default(), &slot, Dose(1), TimestampMs(opens.0 - 1)).unwrap_err();
    assert_eq!(refused, PolicyRefusal { rule: BOOKING_HORIZON, from: Some(opens) });
    assert_eq!(rule(&india, &slot, 1, opens), None);
}

#[test]
fn the_shortcut_before_the_calendar_never_opens_early() {
    let berlin = include_str!("../../../programmes/india-2021.toml").replace("Asia/Kolkata", "Europe/Berlin");
    let berlin = Programme::from_toml(&berlin).unwrap();
    // The clocks change inside the horizon, in both directions.
    for (year, month, day) in [(2026, 4, 10), (2026, 11, 10)] {
        for hour in [0, 1, 9, 23] {
            let starts_at = berlin.calendar().instant(date(year, month, day), time(hour, 0, 0, 0)).unwrap();
            let facts = SlotFacts { starts_at, ..slot(&berlin, 1) };
            let opens = berlin.calendar().midnight_before(starts_at, 28);
            assert_eq!(rule(&berlin, &facts, 1, opens), None);
            assert_eq!(rule(&berlin, &facts, 1, TimestampMs(opens.0 - 1)), Some(BOOKING_HORIZON));
        }
    }
}

#[test]
fn the_cutoffs_count_back_from_the_start() {
    let india = india();
    let slot = slot(&india, 1);
    assert_eq!(rule(&india, &slot, 1, slot.starts_at), None);
    assert_eq!(rule(&india, &slot, 1, TimestampMs(slot.starts_at.0 + 1)), Some(BOOKING_CUTOFF));
    assert_eq!(india.in_time(slot.starts_at, slot.starts_at), Ok(()));
    let late = india.in_time(slot.starts_at, TimestampMs(slot.starts_at.0 + 1));
    assert_eq!(late.unwrap_err().rule, BOOKING_CUTOFF);
    let last = TimestampMs(slot.starts_at.0 - 3_600_000);
    assert_eq!(india.may_leave(&slot, last), Ok(()));
    assert_eq!(india.may_leave(&slot, TimestampMs(last.0 + 1)).unwrap_err().rule, CANCEL_CUTOFF);
}

const FRANCE: &str = include_str!("../../../programmes/france-2021.toml");

/// What a programme says to somebody who asks at an instant for a slot at ten on a day.
struct Asking<'p> {
    programme: &'p Programme,
    party: PartyFacts,
    product: &'p str,
    pool: &'p str,
    dose: u8,
}

impl Asking<'_> {
    fn slot(&self, on: Date) -> SlotFacts {
        let (programme, pool) = (self.programme, self.programme.pool_number(self.pool).unwrap_or(PoolId(0)));
        let starts_at = programme.calendar().instant(on, time(10, 0, 0, 0)).unwrap();
        let product = programme.product_number(self.product).unwrap();
        SlotFacts { programme: PROGRAMME, dose: programme.pool_dose(pool), product, pool, starts_at }
    }

    fn at(&self, on: Date, now: TimestampMs) -> Result<(), PolicyRefusal> {
        self.programme.may_claim(&self.party, &self.slot(on), Dose(self.dose), now)
    }

    /// Asked at the first instant of that very day.
    fn says(&self, on: Date) -> Result<(), PolicyRefusal> {
        self.at(on, midnight(self.programme, on))
    }
}

fn midnight(programme: &Programme, on: Date) -> TimestampMs {
    programme.calendar().start_of_day(crate::Calendar::day_of(on).unwrap())
}

fn born(birth_year: u16) -> PartyFacts {
    PartyFacts { birth_year, ..PartyFacts::default() }
}

fn after(programme: &Programme, product: &str, on: Date) -> PartyFacts {
    let product = programme.product_number(product).unwrap();
    PartyFacts { doses: 1, product, last_dose_day: crate::Calendar::day_of(on).unwrap(), ..born(1950) }
}

fn refused(rule: &'static str, programme: &Programme, from: Date) -> Result<(), PolicyRefusal> {
    not_before(rule, midnight(programme, from))
}

// rule: ELG-1
/// The gap that is in force when it is asked for binds, to the millisecond; the day of the visit does not change that.
#[test]
fn a_changed_gap_is_for_who_asks_from_that_day_on() {
    let india = india();
    let party = after(&india, "covishield", date(2021, 4, 1));
    let asking = Asking { programme: &india, party, product: "covishield", pool: "dose2", dose: 2 };
    let changed = midnight(&india, date(2021, 5, 13));
    let visit = date(2021, 5, 20);
    assert_eq!(asking.at(visit, TimestampMs(changed.0 - 1)), Ok(()), "49 days, when 42 were asked for");
    assert_eq!(asking.at(visit, changed), refused(DOSE_GAP, &india, date(2021, 6, 24)));
    assert_eq!(
        asking.at(date(2021, 5, 12), TimestampMs(changed.0 - DAY_MS)),
        refused(DOSE_GAP, &india, date(2021, 5, 13))
    );
    let covaxin = Asking { party: after(&india, "covaxin", date(2021, 4, 16)), product: "covaxin", ..asking };
    assert_eq!(covaxin.says(date(2021, 5, 14)), Ok(()), "of another product nothing has changed");
    assert_eq!(
        india.due_by(&covaxin.party, &covaxin.slot(visit), Dose(2), changed),
        crate::Calendar::day_of(date(2021, 5, 28))
    );
}

/// A booking of before the change goes to the next centre where its own is closed.
// rule: ELG-1
#[test]
fn a_longer_gap_keeps_nobody_from_being_moved() {
    let india = india();
    let party = after(&india, "covishield", date(2021, 4, 5));
    let asking = Asking { programme: &india, party, product: "covishield", pool: "dose2", dose: 2 };
    let (visit, now) = (date(2021, 5, 20), midnight(&india, date(2021, 5, 14)));
    assert_eq!(asking.at(visit, now).unwrap_err().rule, DOSE_GAP);
    assert_eq!(india.may_be_moved(&party, &asking.slot(visit), Dose(2), now), Ok(()));
    let too_soon = india.may_be_moved(&party, &asking.slot(date(2021, 4, 20)), Dose(2), now);
    assert_eq!(too_soon.unwrap_err().rule, DOSE_GAP, "by no rule that ever was");
}

/// Where the visit lies further ahead than can be booked, it is said from when on it will be yes all the same.
#[test]
fn what_is_beyond_the_horizon_has_a_first_day_too() {
    let india = india();
    let day = |on| crate::Calendar::day_of(on).unwrap();
    let (party, asked) = (after(&india, "covishield", date(2021, 5, 20)), midnight(&india, date(2021, 6, 1)));
    let (product, on) = (ProductId(1), day(date(2021, 7, 10)));
    let question = crate::Question { party, product, dose: Dose(2), pool: None, on, asked, invitations_spent: 0 };
    let told = india.explain(&question);
    assert_eq!((told.refusal.unwrap().rule, told.from), (DOSE_GAP, Some(day(date(2021, 8, 12)))));
    let far = crate::Question { on: day(date(2021, 12, 1)), ..question };
    assert_eq!(india.explain(&far).from, Some(far.on), "that day itself, once it can be booked");
}

/// Of two exceptions for one pair the newer holds, and neither has the product's last day.
#[test]
fn the_newest_exception_holds() {
    let mix = "[[mixes]]\nafter = \"vaxzevria\"\nproduct = \"comirnaty\"\nfrom = 2021-06-01\ngap_days_min = 120\n\n";
    let text = FRANCE.replacen("[[changes]]", &format!("{mix}[[changes]]"), 1);
    let france = Programme::from_toml(&text).unwrap();
    let party = after(&france, "vaxzevria", date(2021, 3, 20));
    let asking = Asking { programme: &france, party, product: "comirnaty", pool: "seconde", dose: 2 };
    let (visit, newer) = (date(2021, 6, 20), midnight(&france, date(2021, 6, 1)));
    assert_eq!(asking.at(visit, TimestampMs(newer.0 - 1)), Ok(()));
    assert_eq!(asking.at(visit, newer), refused(DOSE_GAP, &france, date(2021, 7, 18)));
    assert_eq!(france.due_by(&party, &asking.slot(visit), Dose(2), newer), None);
}

#[test]
fn an_age_band_opens_on_its_day_for_whom_it_covers() {
    let india = india();
    let asking = |birth_year| Asking {
        programme: &india,
        party: born(birth_year),
        product: "covishield",
        pool: "dose1",
        dose: 1,
    };
    let (april, may) = (date(2021, 4, 1), date(2021, 5, 1));
    assert_eq!(asking(1976).says(april), Ok(()));
    assert_eq!(asking(1976).says(date(2021, 3, 31)), refused(AGE_BAND, &india, april));
    assert_eq!(asking(1977).says(april), refused(AGE_BAND, &india, may));
    assert_eq!(asking(1961).says(date(2021, 3, 1)), Ok(()));
    // Eighteen by the year of the visit, and so from New Year's Day on.
    assert_eq!(asking(2003).says(may), Ok(()));
    assert_eq!(asking(2004).says(may), refused(AGE_BAND, &india, date(2022, 1, 1)));
    // Below it only one product is there for them, and only from a day on.
    let covaxin = Asking { product: "covaxin", ..asking(2007) };
    assert_eq!(covaxin.says(date(2021, 12, 31)), refused(AGE_BAND, &india, date(2022, 1, 3)));
    assert_eq!(covaxin.says(date(2022, 1, 3)), Ok(()));
    assert_eq!(asking(0).says(may), Ok(()), "whose age is not known is let through, but not before the band's day");
    assert_eq!(asking(0).says(date(2021, 2, 28)).unwrap_err().rule, AGE_BAND);
}

#[test]
fn a_cohort_opens_on_its_day() {
    let india = india();
    let frontline = india.cohort_bit("frontline").unwrap();
    let party = PartyFacts { cohorts: frontline, ..born(1990) };
    let asking = Asking { programme: &india, party, product: "covaxin", pool: "dose1", dose: 1 };
    assert_eq!(asking.says(date(2021, 2, 1)), refused(COHORT_OPENING, &india, date(2021, 2, 2)));
    assert_eq!(asking.says(date(2021, 2, 2)), Ok(()));
    let both = PartyFacts { cohorts: frontline | india.cohort_bit("health_worker").unwrap(), ..party };
    assert_eq!(Asking { party: both, ..asking }.says(date(2021, 1, 16)), Ok(()), "the first of them counts");
    let ill = PartyFacts { cohorts: india.cohort_bit("comorbidity").unwrap(), ..born(1970) };
    let asking = Asking { programme: &india, party: ill, product: "covaxin", pool: "dose1", dose: 1 };
    assert_eq!(asking.says(date(2021, 2, 28)), refused(AGE_BAND, &india, date(2021, 3, 1)));
    assert_eq!(asking.says(date(2021, 3, 1)), Ok(()));
}

/// A window that opens at an announced minute: nobody of those it is for books a millisecond before.
#[test]
fn booking_opens_at_the_announced_minute() {
    let india = india();
    let asking = Asking { programme: &india, party: born(1990), product: "covishield", pool: "dose1", dose: 1 };
    let opens = india.calendar().instant(date(2021, 4, 28), time(16, 0, 0, 0)).unwrap();
    let visit = date(2021, 5, 1);
    assert_eq!(asking.at(visit, TimestampMs(opens.0 - 1)), not_before(BOOKING_OPENING, opens));
    assert_eq!(asking.at(visit, opens), Ok(()));
    let elder = Asking { party: born(1960), ..asking };
    assert_eq!(elder.at(visit, TimestampMs(opens.0 - 1)), Ok(()), "who is covered by an earlier band does not wait");
    let slot = elder.slot(visit);
    assert_eq!(
        india.may_be_moved(&born(1990), &slot, Dose(1), TimestampMs(opens.0 - 1)),
        Ok(()),
        "that is not for the mover"
    );
}

#[test]
fn a_product_follows_itself_or_what_the_file_names() {
    let france = Programme::from_toml(FRANCE).unwrap();
    let asking = Asking {
        programme: &france,
        party: after(&france, "vaxzevria", date(2021, 2, 10)),
        product: "comirnaty",
        pool: "seconde",
        dose: 2,
    };
    let (visit, exception) = (date(2021, 5, 10), midnight(&france, date(2021, 4, 9)));
    assert_eq!(asking.at(visit, TimestampMs(exception.0 - 1)), not_before(SAME_PRODUCT, exception));
    assert_eq!(asking.at(visit, exception), Ok(()), "89 days later");
    assert_eq!(
        asking.says(date(2021, 5, 4)),
        refused(DOSE_GAP, &france, date(2021, 5, 5)),
        "84 days, whatever Comirnaty's own are"
    );
    let back = Asking { party: after(&france, "comirnaty", date(2021, 2, 10)), product: "vaxzevria", ..asking };
    assert_eq!(back.says(visit), no(SAME_PRODUCT));
    let elsewhere = PartyFacts { product: ProductId(0), ..back.party };
    assert_eq!(
        Asking { party: elsewhere, ..back }.says(visit),
        Ok(()),
        "what is not known is for the centre to find out"
    );
}

#[test]
fn an_unfilled_pool_spills_at_its_time() {
    let france = Programme::from_toml(FRANCE).unwrap();
    let visit = date(2021, 6, 10);
    let asking = Asking { programme: &france, party: born(1950), product: "comirnaty", pool: "seconde", dose: 1 };
    let spills = TimestampMs(asking.slot(visit).starts_at.0 - DAY_MS);
    assert_eq!(asking.at(visit, TimestampMs(spills.0 - 1)), not_before(POOL_DOSE, spills));
    assert_eq!(asking.at(visit, spills), Ok(()));
    let kept = Asking { pool: "soignants", ..asking };
    let spills = TimestampMs(spills.0 - DAY_MS);
    assert_eq!(kept.at(visit, TimestampMs(spills.0 - 1)), not_before(POOL_COHORT, spills));
    assert_eq!(kept.at(visit, spills), Ok(()));
    let member = PartyFacts { cohorts: france.cohort_bit("soignant").unwrap(), ..born(1950) };
    assert_eq!(Asking { party: member, ..kept }.at(visit, TimestampMs(spills.0 - 1)), Ok(()));
    let opening = Asking { party: member, ..kept }.at(date(2020, 12, 30), midnight(&france, date(2020, 12, 28)));
    assert_eq!(opening, refused(COHORT_OPENING, &france, date(2021, 1, 4)));
}

#[test]
fn units_for_the_door_alone_are_not_booked() {
    let france = Programme::from_toml(FRANCE).unwrap();
    let visit = date(2021, 6, 10);
    let asking =
        Asking { programme: &france, party: born(1950), product: "comirnaty", pool: "sans-rendez-vous", dose: 1 };
    assert_eq!(asking.says(visit), no(WALK_IN_ONLY));
    let slot = asking.slot(visit);
    assert_eq!(france.may_walk_in(&asking.party, &slot, Dose(1), slot.starts_at), Ok(()));
    assert_eq!(Asking { party: born(0), pool: "toutes", ..asking }.says(visit), no(AGE_UNKNOWN));
}

/// Every rule that can be told has a sentence, and its place in the order.
#[test]
fn every_rule_has_a_sentence() {
    let names: std::collections::HashSet<_> = RULES.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), RULES.len());
    for rule in [POOL_DOSE, AGE_BAND, NO_SHOW_GRACE] {
        assert!(!sentence(rule).is_empty());
    }
    assert_eq!(sentence("no rule"), "");
}

/// A move has its own last moment once the file names one; until then it has that of a cancellation.
#[test]
fn a_move_may_have_a_last_moment_of_its_own() {
    let text = include_str!("../../../programmes/india-2021.toml");
    let india = Programme::from_toml(text).unwrap();
    let there = slot(&india, 1);
    let hours = |hours: u64| TimestampMs(there.starts_at.0 - hours * 3_600_000);
    assert_eq!(india.may_move_away(&there, hours(1)), Ok(()));
    assert_eq!(india.may_move_away(&there, TimestampMs(hours(1).0 + 1)).unwrap_err().rule, MOVE_CUTOFF);
    let own = text.replace("cancel_cutoff_minutes = 60", "cancel_cutoff_minutes = 60\nmove_cutoff_minutes = 180");
    let own = Programme::from_toml(&own).unwrap();
    assert_eq!(own.may_move_away(&there, TimestampMs(hours(3).0 + 1)).unwrap_err().rule, MOVE_CUTOFF);
    assert_eq!((own.may_move_away(&there, hours(3)), own.may_leave(&there, hours(1))), (Ok(()), Ok(())));
    // A change of the one leaves the other, where both are named.
    for (first, both) in [("", 2), ("move_cutoff_minutes = 180\n", 3)] {
        let changed = text
            .replace("cancel_cutoff_minutes = 60", &format!("cancel_cutoff_minutes = 60\n{first}"))
            .replacen("[[changes]]", "[[changes]]\nfrom = 2021-01-02\ncancel_cutoff_minutes = 120\n\n[[changes]]", 1);
        let changed = Programme::from_toml(&changed).unwrap();
        assert_eq!(changed.may_leave(&there, TimestampMs(hours(2).0 + 1)).unwrap_err().rule, CANCEL_CUTOFF);
        assert_eq!(changed.may_move_away(&there, hours(both)), Ok(()));
        assert!(changed.may_move_away(&there, TimestampMs(hours(both).0 + 1)).is_err());
    }
}
