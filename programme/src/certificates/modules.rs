//! The modules of a QR symbol as rows of bits, and what ISO 18004 counts against a mask, for a whole row at a time.

use std::ops::{BitAnd, BitOr, BitXor, Not};

/// A row or a column: 192 bits, of which the largest symbol has 177.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Line([u64; 3]);

impl Line {
    pub(super) fn has(self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    pub(super) fn set(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    /// The first so many.
    fn first(many: usize) -> Line {
        let word = |at: usize| match many.saturating_sub(64 * at) {
            64.. => u64::MAX,
            bits => (1 << bits) - 1,
        };
        Line([word(0), word(1), word(2)])
    }

    /// What stands `by` further on, for less than a word.
    fn ahead(self, by: u32) -> Line {
        let Line([low, middle, high]) = self;
        if by == 0 {
            return self;
        }
        Line([low >> by | middle << (64 - by), middle >> by | high << (64 - by), high >> by])
    }

    fn count(self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

impl BitAnd for Line {
    type Output = Line;
    fn bitand(self, with: Line) -> Line {
        Line(std::array::from_fn(|at| self.0[at] & with.0[at]))
    }
}

impl BitOr for Line {
    type Output = Line;
    fn bitor(self, with: Line) -> Line {
        Line(std::array::from_fn(|at| self.0[at] | with.0[at]))
    }
}

impl BitXor for Line {
    type Output = Line;
    fn bitxor(self, with: Line) -> Line {
        Line(std::array::from_fn(|at| self.0[at] ^ with.0[at]))
    }
}

impl Not for Line {
    type Output = Line;
    fn not(self) -> Line {
        Line(self.0.map(|word| !word))
    }
}

/// A square of modules, by rows and by columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Modules {
    rows: Vec<Line>,
    columns: Vec<Line>,
}

impl Modules {
    /// Of a square, row by row: which are dark.
    pub(super) fn of(dark: impl ExactSizeIterator<Item = bool>) -> Modules {
        let width = dark.len().isqrt();
        let mut modules = Modules { rows: vec![Line::default(); width], columns: vec![Line::default(); width] };
        for (at, _) in dark.enumerate().filter(|(_, dark)| *dark) {
            let (y, x) = (at / width, at % width);
            modules.rows[y].set(x);
            modules.columns[x].set(y);
        }
        modules
    }

    /// On a side.
    pub(super) fn width(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn rows(&self) -> &[Line] {
        &self.rows
    }

    /// Where one of the two is dark.
    pub(super) fn differing(&self, other: &Modules) -> Modules {
        let lines = |one: &[Line], other: &[Line]| one.iter().zip(other).map(|(a, b)| *a ^ *b).collect();
        Modules { rows: lines(&self.rows, &other.rows), columns: lines(&self.columns, &other.columns) }
    }

    /// Long runs, blocks of four, what looks like a corner, more of one colour.
    pub(super) fn penalty(&self) -> usize {
        let width = self.width();
        let dark: usize = self.rows.iter().map(|row| row.count()).sum();
        let all = width * width;
        let balance = (200 * dark).abs_diff(100 * all) / all.max(1) / 10 * 10;
        let lines = self.rows.iter().chain(&self.columns).map(|line| in_line(*line, width)).sum::<usize>();
        let pairs = self.rows.iter().zip(self.rows.iter().skip(1));
        let blocks: usize = pairs.map(|(above, below)| blocks(*above, *below, width)).sum();
        lines + 3 * blocks + balance
    }
}

/// Where a module is as the next one.
fn like_next(line: Line, width: usize) -> Line {
    !(line ^ line.ahead(1)) & Line::first(width.saturating_sub(1))
}

/// Of a row or column: 3 for five of a colour and 1 for each more, 40 for what looks like a corner with light before or behind it.
fn in_line(line: Line, width: usize) -> usize {
    let same = like_next(line, width);
    let two = same & same.ahead(1);
    // Where five begin: a run of n has n - 4 of them side by side.
    let five = two & two.ahead(2);
    let runs = five & !five.ahead(1);
    let light = !line;
    let corner = line & light.ahead(1) & line.ahead(2) & line.ahead(3) & line.ahead(4) & light.ahead(5) & line.ahead(6);
    let free = light & light.ahead(1) & light.ahead(2) & light.ahead(3);
    let windows = Line::first(width.saturating_sub(10));
    let before = free & corner.ahead(4) & windows;
    let behind = corner & free.ahead(7) & windows;
    five.count() + 2 * runs.count() + 40 * (before.count() + behind.count())
}

fn blocks(above: Line, below: Line, width: usize) -> usize {
    (like_next(above, width) & like_next(below, width) & !(above ^ below)).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, module by module.
    fn counted(dark: &[bool], width: usize) -> usize {
        let at = |x: usize, y: usize| dark[y * width + x];
        let line = |across: bool| {
            let mut points = 0;
            for y in 0..width {
                let line: Vec<bool> = (0..width).map(|x| if across { at(x, y) } else { at(y, x) }).collect();
                for run in line.chunk_by(|a, b| a == b).filter(|run| run.len() >= 5) {
                    points += run.len() - 2;
                }
                let corner = [true, false, true, true, true, false, true];
                for window in line.windows(11) {
                    points += 40 * usize::from(window[..7] == corner && window[7..] == [false; 4]);
                    points += 40 * usize::from(window[4..] == corner && window[..4] == [false; 4]);
                }
            }
            points
        };
        let mut blocks = 0;
        for y in 1..width {
            for x in 1..width {
                let dark = at(x, y);
                blocks += usize::from(at(x - 1, y) == dark && at(x, y - 1) == dark && at(x - 1, y - 1) == dark);
            }
        }
        let many = dark.iter().filter(|dark| **dark).count();
        line(true) + line(false) + 3 * blocks + (200 * many).abs_diff(100 * dark.len()) / dark.len() / 10 * 10
    }

    /// Squares with long runs, so that each rule has something to count.
    fn squares() -> impl Strategy<Value = Vec<bool>> {
        prop_oneof![Just(21_usize), Just(64), Just(65), Just(129), Just(177)].prop_flat_map(|width| {
            let runs = prop::collection::vec((any::<bool>(), 1..9_usize), width * width);
            runs.prop_map(move |runs| {
                runs.into_iter().flat_map(|(dark, len)| std::iter::repeat_n(dark, len)).take(width * width).collect()
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_penalty_by_rows_is_the_one_module_by_module(dark in squares()) {
            let modules = Modules::of(dark.iter().copied());
            prop_assert_eq!(modules.penalty(), counted(&dark, modules.width()));
        }
    }
}
