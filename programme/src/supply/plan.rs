//! An allotment plan: how batches are shared out among regions, fair by need, and every figure on the way to it.
//!
//! What a region needs are the doses that its target asks for, less those given and those it has. Batches go in the order in which they
//! expire. Of each, a region's quota is its share of what all still need; nobody gets more than it still needs, or could give before the
//! batch expires, and what that leaves over is shared among the others in the same way. Only whole packs travel: each gets its quota
//! rounded down, and the packs that are left go to the largest remainders (Hamilton's method). So every region is within one pack of its
//! quota, and the parts of a batch and what is left of it add up to the batch.

use std::cmp::Reverse;

use jiff::civil::Date;

/// Where doses go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its name, once in a plan.
    pub id: String,
    /// People the programme is for.
    pub population: u64,
    /// Doses given so far.
    pub given: u64,
    /// Doses it has.
    pub stock: u64,
    /// Doses it can give a day; `None`: any number.
    pub per_day: Option<u64>,
}

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its number, once in a plan.
    pub id: String,
    /// What it is of.
    pub product: String,
    /// Doses.
    pub quantity: u64,
    /// The last day on which it may be given.
    pub expires: Date,
}

/// What the plan is to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Of the population, 0 to 100.
    pub percent: u8,
    /// Doses each person is to have.
    pub doses: u8,
    /// Doses of a pack, which is not opened on the way. At least 1.
    pub pack: u64,
    /// The first day on which what is shared out can be given.
    pub on: Date,
}

/// What a region gets of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it needed before it, in doses.
    pub need: u64,
    /// The most it could take: what it needs in whole packs, or can give before the batch expires.
    pub most: u64,
    /// Its quota in thousandths of a pack, rounded down.
    pub quota: u64,
    /// What it gets, in doses.
    pub doses: u64,
}

/// A batch shared out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Its place in the list of batches.
    pub batch: usize,
    /// A part for each region, in their order.
    pub parts: Vec<Part>,
    /// What stays behind: nobody needs it or can give it in time, it fills no pack, or it has expired.
    pub left: u64,
}

/// The whole plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What each region needed at first, in doses.
    pub need: Vec<u64>,
    /// Batches in the order in which they expire.
    pub shared: Vec<Shared>,
}

impl Plan {
    /// Shares the batches out.
    #[must_use]
    pub fn new(regions: &[Region], batches: &[Batch], target: &Target) -> Plan {
        let need: Vec<u64> = regions.iter().map(|region| region.need(target)).collect();
        let mut order: Vec<usize> = (0..batches.len()).collect();
        order.sort_by_key(|&at| (batches[at].expires, at));

        let mut got = vec![0u64; regions.len()];
        let share = |batch: usize| {
            let shared = share_out(&batches[batch], batch, regions, &need, &got, target);
            got.iter_mut().zip(&shared.parts).for_each(|(got, part)| *got += part.doses);
            shared
        };
        let shared = order.into_iter().map(share).collect();
        Plan { need, shared }
    }

    /// What a region gets of all batches.
    #[must_use]
    pub fn doses(&self, region: usize) -> u64 {
        self.shared.iter().map(|shared| shared.parts[region].doses).sum()
    }
}

impl Region {
    /// Doses that its target asks for, given or not.
    #[must_use]
    pub fn asked(&self, target: &Target) -> u64 {
        let people = (u128::from(self.population) * u128::from(target.percent)).div_ceil(100);
        u64::try_from(people * u128::from(target.doses)).unwrap_or(u64::MAX)
    }

    fn need(&self, target: &Target) -> u64 {
        self.asked(target).saturating_sub(self.given).saturating_sub(self.stock)
    }

    /// What it can still take of a batch that expires then, beside what it has and gets before.
    fn in_time(&self, expires: Date, got: u64, target: &Target) -> u64 {
        let days = u64::try_from((expires - target.on).get_days()).map_or(0, |days| days + 1);
        let given = self.per_day.map_or(u64::MAX, |per_day| per_day.saturating_mul(days));
        given.saturating_sub(self.stock).saturating_sub(got)
    }
}

fn share_out(batch: &Batch, at: usize, regions: &[Region], need: &[u64], got: &[u64], target: &Target) -> Shared {
    let pack = target.pack.max(1);
    let is_good = batch.expires >= target.on;
    let mut parts: Vec<Part> = Vec::with_capacity(regions.len());
    for ((region, need), got) in regions.iter().zip(need).zip(got) {
        let need = need.saturating_sub(*got);
        let packs = need.div_ceil(pack).min(region.in_time(batch.expires, *got, target) / pack);
        let most = if is_good { packs * pack } else { 0 };
        parts.push(Part { need, most, quota: 0, doses: 0 });
    }
    let needs: Vec<u64> = parts.iter().map(|part| part.need).collect();
    let caps: Vec<u64> = parts.iter().map(|part| part.most / pack).collect();
    for (part, (quota, packs)) in parts.iter_mut().zip(apportion(batch.quantity / pack, &needs, &caps)) {
        (part.quota, part.doses) = (quota, packs * pack);
    }
    let left = batch.quantity - parts.iter().map(|part| part.doses).sum::<u64>();
    Shared { batch: at, parts, left }
}

/// Shares `packs` out in proportion to `needs`, none above its cap: for each its quota in thousandths, and what it gets.
fn apportion(packs: u64, needs: &[u64], caps: &[u64]) -> Vec<(u64, u64)> {
    let mut capped = vec![false; needs.len()];
    // What is left for those who are not at their cap, and what they need together.
    let (mut left, mut sum) = (u128::from(packs), needs.iter().map(|&need| u128::from(need)).sum::<u128>());
    loop {
        let reaches = |at: usize| !capped[at] && left * u128::from(needs[at]) >= u128::from(caps[at]) * sum;
        let full: Vec<usize> = (0..needs.len()).filter(|&at| reaches(at)).collect();
        if full.is_empty() || sum == 0 {
            break;
        }
        for at in full {
            capped[at] = true;
            left = left.saturating_sub(u128::from(caps[at]));
            sum -= u128::from(needs[at]);
        }
    }
    let quota = |at: usize| if capped[at] || sum == 0 { None } else { Some(left * u128::from(needs[at])) };
    let small = |wide: u128| u64::try_from(wide).expect("a quota is no more than all packs, of which there are few");
    let mut shares: Vec<(u64, u64)> = (0..needs.len())
        .map(|at| match quota(at) {
            Some(quota) => (small(quota * 1000 / sum), small(quota / sum)),
            None if capped[at] => (caps[at].saturating_mul(1000), caps[at]),
            None => (0, 0),
        })
        .collect();
    let given: u64 = (0..needs.len()).filter(|&at| quota(at).is_some()).map(|at| shares[at].1).sum();
    let mut over: Vec<usize> = (0..needs.len()).filter(|&at| quota(at).is_some_and(|quota| quota % sum > 0)).collect();
    over.sort_by_key(|&at| (Reverse(quota(at).map(|quota| quota % sum)), Reverse(needs[at]), at));
    let rest = usize::try_from(left.saturating_sub(u128::from(given))).unwrap_or(usize::MAX);
    // Whoever is below its cap by its quota is so by a whole pack or exactly at it: caps are whole.
    for at in over.into_iter().take(rest) {
        shares[at].1 += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn region(id: &str, population: u64, given: u64, stock: u64, per_day: Option<u64>) -> Region {
        Region { id: id.to_owned(), population, given, stock, per_day }
    }

    fn batch(id: &str, quantity: u64, expires: Date) -> Batch {
        Batch { id: id.to_owned(), product: "covishield".to_owned(), quantity, expires }
    }

    fn target(pack: u64) -> Target {
        Target { percent: 50, doses: 2, pack, on: date(2021, 6, 1) }
    }

    fn doses(plan: &Plan, regions: usize) -> Vec<u64> {
        (0..regions).map(|at| plan.doses(at)).collect()
    }

    /// By hand: 1000, 600 and 400 are needed; of 1,000 doses in packs of ten that is 50, 30 and 20 packs.
    #[test]
    fn a_batch_is_shared_in_proportion_to_need() {
        let regions =
            [region("a", 1500, 500, 0, None), region("b", 1000, 300, 100, None), region("c", 400, 0, 0, None)];
        let plan = Plan::new(&regions, &[batch("x", 1000, date(2021, 9, 30))], &target(10));
        assert_eq!((plan.need.clone(), doses(&plan, 3)), (vec![1000, 600, 400], vec![500, 300, 200]));
        assert_eq!(plan.shared[0].left, 0);
    }

    /// Three equal needs and ten packs: the tenth goes to one, by name's place.
    #[test]
    fn the_largest_remainders_get_the_packs_that_are_left() {
        let regions = [region("a", 100, 0, 0, None), region("b", 101, 0, 0, None), region("c", 100, 0, 0, None)];
        let plan = Plan::new(&regions, &[batch("x", 55, date(2021, 9, 30))], &target(5));
        // 11 packs by 100 : 102 : 100 are 3.64, 3.71 and 3.64.
        assert_eq!(doses(&plan, 3), [20, 20, 15]);
        assert_eq!(plan.shared[0].parts.iter().map(|part| part.quota).collect::<Vec<_>>(), [3642, 3715, 3642]);
    }

    /// Who can give ten a day gets no more than that until the batch expires, the first day and the last counted; the others get the rest.
    #[test]
    fn nobody_gets_what_would_expire_on_the_shelf() {
        let regions = [region("slow", 1000, 0, 5, Some(10)), region("fast", 1000, 0, 0, None)];
        let plan = Plan::new(
            &regions,
            &[batch("late", 300, date(2021, 12, 31)), batch("soon", 200, date(2021, 6, 5))],
            &target(5),
        );
        let soon = &plan.shared[0];
        assert_eq!((soon.batch, soon.parts[0].doses, soon.parts[1].doses, soon.left), (1, 45, 155, 0));
        // Of the later one the slow region gets more, for it still needs more.
        assert!(plan.shared[1].parts[0].doses > plan.shared[1].parts[1].doses);
    }

    #[test]
    fn what_has_expired_or_nobody_needs_stays_behind() {
        let regions = [region("a", 10, 0, 0, None)];
        let batches = [batch("old", 100, date(2021, 5, 31)), batch("new", 100, date(2021, 6, 1))];
        let plan = Plan::new(&regions, &batches, &target(4));
        assert_eq!(plan.shared.iter().map(|shared| shared.left).collect::<Vec<_>>(), [100, 88]);
        assert_eq!(doses(&plan, 1), [12], "ten are needed, and packs are of four");
        assert_eq!(Plan::new(&[], &batches, &target(4)).shared[1].left, 100);
    }

    proptest! {
        #[test]
        fn the_parts_add_up_and_are_fair(
            sizes in prop::collection::vec((0u64..5_000_000, 0u64..2_000_000, 0u64..50_000, prop::option::of(0u64..20_000)), 0..12),
            quantities in prop::collection::vec((0u64..3_000_000, -5i32..60), 0..6),
            pack in 1u64..500,
        ) {
            let regions: Vec<Region> = sizes.into_iter().map(|(population, given, stock, per_day)| region("r", population, given, stock, per_day)).collect();
            let target = target(pack);
            let batches: Vec<Batch> = quantities.into_iter().map(|(quantity, days)| batch("b", quantity, target.on.saturating_add(jiff::Span::new().days(days)))).collect();
            let plan = Plan::new(&regions, &batches, &target);
            for shared in &plan.shared {
                let of = &batches[shared.batch];
                let parts = &shared.parts;
                prop_assert_eq!(parts.iter().map(|part| part.doses).sum::<u64>() + shared.left, of.quantity);
                for part in parts {
                    prop_assert!(part.doses <= part.most && part.doses % pack == 0);
                    prop_assert!((part.doses / pack).abs_diff(part.quota / 1000) <= 1);
                }
                // Whole packs stay behind only where nobody takes another.
                prop_assert!(shared.left < pack || parts.iter().all(|part| part.doses == part.most));
                // Of two who could both take more, who needs more gets no less than a pack short of it.
                for (one, other) in parts.iter().flat_map(|one| parts.iter().map(move |other| (one, other))) {
                    if one.need > other.need && one.doses < one.most {
                        prop_assert!(one.doses + pack >= other.doses);
                    }
                }
            }
            for (at, region) in regions.iter().enumerate() {
                prop_assert!(plan.doses(at) < plan.need[at] + pack);
                prop_assert_eq!(plan.need[at], region.asked(&target).saturating_sub(region.given).saturating_sub(region.stock));
            }
        }
    }
}
