//! The letters on the paper of a certificate: fonts within the binary, and a text put together of the glyphs of whichever has its letters.
//!
//! Latin, Greek and Cyrillic, and nine scripts of India. All of them are read from left to right; what none of them has is refused, never
//! printed as an empty box.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use krilla::Data;
use krilla::text::{Font, GlyphId, KrillaGlyph};
use rustybuzz::{Direction, Face, Script, ShapePlan, UnicodeBuffer};

/// Bytes of fonts that may be had bold, then of those that are regular alone: the first that has a letter draws it.
const BOTH: [(&[u8], &[u8]); 2] = [
    (include_bytes!("../../fonts/NotoSans-Regular.ttf"), include_bytes!("../../fonts/NotoSans-Bold.ttf")),
    (
        include_bytes!("../../fonts/NotoSansDevanagari-Regular.ttf"),
        include_bytes!("../../fonts/NotoSansDevanagari-Bold.ttf"),
    ),
];
const REGULAR: [&[u8]; 8] = [
    include_bytes!("../../fonts/NotoSansBengali-Regular.ttf"),
    include_bytes!("../../fonts/NotoSansGujarati-Regular.ttf"),
    include_bytes!("../../fonts/NotoSansGurmukhi-Regular.ttf"),
    include_bytes!("../../fonts/NotoSansKannada-Regular.ttf"),
    include_bytes!("../../fonts/NotoSansMalayalam-Regular.ttf"),
    include_bytes!("../../fonts/NotoSansOriya-Regular.ttf"),
    include_bytes!("../../fonts/NotoSansTamil-Regular.ttf"),
    include_bytes!("../../fonts/NotoSansTelugu-Regular.ttf"),
];

/// How heavy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Weight {
    Regular,
    Bold,
}

/// A letter that no font has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no font has the letter U+{:04X}", u32::from(*.0))]
pub struct NoLetter(pub char);

/// All fonts, read once.
pub struct Fonts {
    regular: Vec<Loaded>,
    bold: Vec<Loaded>,
    fixed: RwLock<HashMap<Fixed, Arc<[Line]>>>,
}

/// A text, how heavy it is, and the bits of the width of its lines.
type Fixed = (String, Weight, u32);

/// Texts that stand on every paper: some 30 for a language of a programme.
const FIXED_MAX: usize = 2048;

impl std::fmt::Debug for Fonts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fonts({})", self.regular.len())
    }
}

type Plan = (Script, Arc<ShapePlan>);

#[derive(Clone)]
struct Loaded {
    shaper: Face<'static>,
    font: Font,
    /// What the font does with each script that was met: to find it takes longer than to shape a line.
    plans: Arc<RwLock<Vec<Plan>>>,
}

/// A text in one line, shaped.
pub(super) struct Line {
    pub(super) text: String,
    pub(super) runs: Vec<Run>,
    /// In ems.
    pub(super) width: f32,
}

/// A part of a line that one font draws.
pub(super) struct Run {
    /// Bytes of the line's text.
    pub(super) text: Range<usize>,
    pub(super) font: Font,
    pub(super) glyphs: Vec<KrillaGlyph>,
    /// In ems.
    pub(super) width: f32,
}

impl Default for Fonts {
    fn default() -> Fonts {
        Fonts::new()
    }
}

impl Fonts {
    /// Reads them. A few milliseconds: once for a process.
    #[must_use]
    pub fn new() -> Fonts {
        let load = |bytes: &'static [u8]| {
            let shaper = Face::from_slice(bytes, 0).expect("a font of this repository");
            let font = Font::new(Data::from(bytes), 0).expect("a font of this repository");
            Loaded { shaper, font, plans: Arc::default() }
        };
        let alone: Vec<Loaded> = REGULAR.into_iter().map(load).collect();
        let with = |both: Vec<Loaded>| both.into_iter().chain(alone.iter().cloned()).collect();
        Fonts {
            regular: with(BOTH.into_iter().map(|(regular, _)| load(regular)).collect()),
            bold: with(BOTH.into_iter().map(|(_, bold)| load(bold)).collect()),
            fixed: RwLock::default(),
        }
    }

    /// A text as glyphs, in the order in which they are read.
    pub(super) fn line(&self, text: &str, weight: Weight) -> Result<Line, NoLetter> {
        let fonts = match weight {
            Weight::Regular => &self.regular,
            Weight::Bold => &self.bold,
        };
        let mut runs = Vec::new();
        let (mut start, mut current) = (0, None::<&Loaded>);
        for (at, letter) in text.char_indices() {
            // Spaces, digits and joiners belong to no script: they stay with the letters before them.
            let goes_on = !letter.is_alphabetic() || letter.is_ascii_digit();
            let has = |font: &&Loaded| font.shaper.glyph_index(letter).is_some();
            let found = current.filter(|font| goes_on && has(font)).or_else(|| fonts.iter().find(has));
            let found = found.ok_or(NoLetter(letter))?;
            if let Some(before) = current
                && !std::ptr::eq(before, found)
            {
                runs.push(before.shape(text, start..at));
                start = at;
            }
            current = Some(found);
        }
        runs.extend(current.map(|font| font.shape(text, start..text.len())));
        let width = runs.iter().map(|run| run.width).sum();
        Ok(Line { text: text.to_owned(), runs, width })
    }

    /// A text that stands on every paper of a programme, in lines of this width: shaped once.
    pub(super) fn fixed(&self, text: &str, weight: Weight, width: f32) -> Result<Arc<[Line]>, NoLetter> {
        let key = (text.to_owned(), weight, width.to_bits());
        if let Some(lines) = self.fixed.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(lines));
        }
        let lines: Arc<[Line]> = self.lines(text, weight, width)?.into();
        let mut fixed = self.fixed.write().unwrap_or_else(PoisonError::into_inner);
        // Programmes that were replaced leave their names behind.
        if fixed.len() >= FIXED_MAX {
            fixed.clear();
        }
        fixed.insert(key, Arc::clone(&lines));
        Ok(lines)
    }

    /// A text in lines of this width in ems: broken between words; a word that is wider than a line, between what is drawn as one.
    pub(super) fn lines(&self, text: &str, weight: Weight, width: f32) -> Result<Vec<Line>, NoLetter> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let whole = self.line(&words.join(" "), weight)?;
        if whole.fits(width) {
            return Ok(if words.is_empty() { Vec::new() } else { vec![whole] });
        }
        let mut lines = Vec::new();
        // The last line, and how wide it is.
        let (mut line, mut taken) = (String::new(), 0.0);
        let space = self.line(" ", weight)?.width;
        for word in words {
            let shaped = self.line(word, weight)?;
            if !line.is_empty() && taken + space + shaped.width <= width + HAIR {
                line.push(' ');
                line.push_str(word);
                taken += space + shaped.width;
                continue;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            if shaped.fits(width) {
                (line, taken) = (word.to_owned(), shaped.width);
                continue;
            }
            for piece in shaped.clusters() {
                let longer = format!("{line}{piece}");
                taken = self.line(&longer, weight)?.width;
                if line.is_empty() || taken <= width + HAIR {
                    line = longer;
                } else {
                    lines.push(std::mem::replace(&mut line, piece.to_owned()));
                    taken = self.line(piece, weight)?.width;
                }
            }
        }
        lines.push(line);
        lines.iter().map(|line| self.line(line, weight)).collect()
    }
}

/// What a width may be wrong by: it was multiplied by a size and divided again.
const HAIR: f32 = 0.001;

impl Line {
    /// Whether it has room in this width.
    pub(super) fn fits(&self, width: f32) -> bool {
        self.width <= width + HAIR
    }

    /// The parts that are drawn as one: a letter with its marks.
    fn clusters(&self) -> Vec<&str> {
        let mut parts = Vec::new();
        for run in &self.runs {
            let mut starts: Vec<usize> =
                run.glyphs.iter().map(|glyph| run.text.start + glyph.text_range.start).collect();
            starts.sort_unstable();
            starts.dedup();
            let ends = starts.iter().skip(1).copied().chain([run.text.end]);
            parts.extend(starts.iter().zip(ends).filter_map(|(start, end)| self.text.get(*start..end)));
        }
        parts
    }
}

impl Loaded {
    fn plan(&self, script: Script) -> Arc<ShapePlan> {
        let known = |plans: &[Plan]| plans.iter().find(|(known, _)| *known == script).map(|(_, plan)| Arc::clone(plan));
        let read = self.plans.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = known(&read) {
            return plan;
        }
        drop(read);
        let named = (script != rustybuzz::script::UNKNOWN).then_some(script);
        let plan = Arc::new(ShapePlan::new(&self.shaper, Direction::LeftToRight, named, None, &[]));
        self.plans.write().unwrap_or_else(PoisonError::into_inner).push((script, Arc::clone(&plan)));
        plan
    }

    fn shape(&self, text: &str, range: Range<usize>) -> Run {
        let text = text.get(range.clone()).unwrap_or_default();
        let mut buffer = UnicodeBuffer::new();
        buffer.push_str(text);
        buffer.guess_segment_properties();
        buffer.set_direction(Direction::LeftToRight);
        let plan = self.plan(buffer.script());
        let shaped = rustybuzz::shape_with_plan(&self.shaper, &plan, buffer);
        let em = self.font.units_per_em();
        let ems = |units: i32| f32::from(i16::try_from(units).unwrap_or(i16::MAX)) / em;
        let infos = shaped.glyph_infos();
        let cluster = |at: usize| infos.get(at).map_or(text.len(), |info| info.cluster as usize);
        let mut glyphs = Vec::with_capacity(infos.len());
        for (at, (info, place)) in infos.iter().zip(shaped.glyph_positions()).enumerate() {
            let from = info.cluster as usize;
            let next = (at + 1..infos.len()).find(|&at| cluster(at) != from).map_or(text.len(), cluster);
            let [dx, x, y, dy] = [place.x_advance, place.x_offset, place.y_offset, place.y_advance].map(ems);
            glyphs.push(KrillaGlyph::new(GlyphId::new(info.glyph_id), dx, x, y, dy, from..next, None));
        }
        let width = shaped.glyph_positions().iter().map(|place| ems(place.x_advance)).sum();
        Run { text: range, font: self.font.clone(), glyphs, width }
    }
}
