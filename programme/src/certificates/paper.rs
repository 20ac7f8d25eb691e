//! The paper of a certificate: one page of A4 as PDF/A, with the fonts within it, tagged so that it can be read aloud.
//!
//! It is set in one language, with English beneath each label, for who checks it abroad. What is proved is what the code says: an EU
//! certificate's has the last dose alone, and the rest stands here for people.

use std::num::NonZeroU16;

use krilla::color::rgb;
use krilla::configure::{Accessibility, Archival, ConfigurationBuilder};
use krilla::destination::XyzDestination;
use krilla::geom::{PathBuilder, Point, Rect, Transform};
use krilla::metadata::{DateTime, Metadata};
use krilla::outline::{Outline, OutlineNode};
use krilla::page::PageSettings;
use krilla::paint::{Fill, Stroke};
use krilla::surface::Surface;
use krilla::tagging::{Artifact, ArtifactType, ContentTag, Node, SpanTag, Tag, TagGroup, TagTree};
use krilla::{Document, SerializeSettings};

use super::fonts::{Fonts, NoLetter, Weight};
use super::qr::Qr;

const WIDTH: f32 = 595.28;
const HEIGHT: f32 = 841.89;
const MARGIN: f32 = 48.0;
const BAND: f32 = 92.0;
/// The side of the code with its quiet zone: 85 mm, so that the densest one has modules of half a millimetre, which a telephone reads.
const CODE: f32 = 241.0;
const GAP: f32 = 22.0;
/// Sizes of the table of doses: of a label, of a cell, and the room between two columns.
const LABEL: f32 = 8.5;
const CELL: f32 = 9.5;
const BETWEEN: f32 = 9.0;

/// Red, green, blue.
type Color = [u8; 3];

const INK: Color = [24, 32, 42];
const FAINT: Color = [92, 102, 114];
const RULE: Color = [208, 214, 220];
const BAND_COLOR: Color = [16, 74, 92];
const WHITE: Color = [255, 255, 255];

/// Something with its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// In the paper's language.
    pub label: &'static str,
    /// In English, unless that is the paper's language.
    pub english: Option<&'static str>,
    /// What it is.
    pub value: String,
}

/// What stands on the paper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paper<'a> {
    /// The BCP 47 tag of its language.
    pub language: &'a str,
    /// The programme.
    pub programme: &'a str,
    /// What the paper is, in its language and in English.
    pub title: Field,
    /// Who, by what, until when.
    pub fields: Vec<Field>,
    /// Above the doses.
    pub doses_title: Field,
    /// What a column of the doses is.
    pub columns: Vec<Field>,
    /// The doses, a cell for each column.
    pub doses: Vec<Vec<String>>,
    /// The code.
    pub qr: &'a Qr,
    /// Which kind of certificate the code is.
    pub kind: &'a str,
    /// How to check it, in its language and in English.
    pub check: Field,
    /// When it was issued: year, month, day.
    pub issued: (u16, u8, u8),
}

/// Why there is no paper.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPaper {
    /// A letter of it cannot be set.
    #[error(transparent)]
    Letter(#[from] NoLetter),
    /// It does not fit a page.
    #[error("the certificate does not fit a page")]
    TooMuch,
    /// It would not be a valid PDF/A.
    #[error("the certificate cannot be set: {0}")]
    Set(String),
}

impl Paper<'_> {
    /// The PDF.
    ///
    /// # Errors
    /// A letter that no font has, or more than fits a page.
    pub fn pdf(&self, fonts: &Fonts) -> Result<Vec<u8>, NoPaper> {
        let configuration = ConfigurationBuilder::new()
            .with_archival_validator(Archival::A2_A)
            .with_accessibility_validator(Accessibility::UA1)
            .finish()
            .map_err(|error| NoPaper::Set(format!("{error:?}")))?;
        let mut document = Document::new_with(SerializeSettings { configuration, ..SerializeSettings::default() });
        let (year, month, day) = self.issued;
        document.set_metadata(
            Metadata::new()
                .title(format!("{} - {}", self.title.value, self.programme))
                .language(self.language.to_owned())
                .creator("Berth".to_owned())
                .creation_date(DateTime::new(year).month(month).day(day)),
        );
        let settings = PageSettings::from_wh(WIDTH, HEIGHT).ok_or(NoPaper::TooMuch)?;
        let tags = {
            let mut page = document.start_page_with(settings);
            let mut pen = Pen { surface: page.surface(), fonts, tags: Vec::new(), language: self.language };
            self.draw(&mut pen)?;
            pen.tags
        };
        let mut tree = TagTree::new().with_lang(Some(self.language.to_owned()));
        for tag in tags {
            tree.push(tag);
        }
        document.set_tag_tree(tree);
        let mut outline = Outline::new();
        let top = XyzDestination::new(0, Point::from_xy(0.0, 0.0));
        outline.push_child(OutlineNode::new(self.title.value.clone(), top));
        document.set_outline(outline);
        document.finish().map_err(|error| NoPaper::Set(format!("{error:?}")))
    }

    fn draw(&self, pen: &mut Pen<'_, '_>) -> Result<(), NoPaper> {
        pen.rectangle(0.0, 0.0, WIDTH, BAND, BAND_COLOR)?;
        let width = WIDTH - 2.0 * MARGIN;
        let heading = pen.fitting(self.programme, Weight::Bold, width, 20.0)?;
        pen.tagged(Tag::Hn(NonZeroU16::MIN, Some(self.programme.to_owned())), |pen| {
            pen.line(MARGIN, 44.0, self.programme, Weight::Bold, heading, WHITE)
        })?;
        let title = match self.title.english {
            Some(english) => format!("{} · {english}", self.title.value),
            None => self.title.value.clone(),
        };
        let size = pen.fitting(&title, Weight::Regular, width, 14.0)?;
        pen.tagged(Tag::P, |pen| pen.line(MARGIN, 70.0, &title, Weight::Regular, size, WHITE))?;

        let left = MARGIN;
        let column = width - CODE - GAP;
        let mut y = BAND + 38.0;
        for field in &self.fields {
            y = pen.field(left, y, column, field, 12.5)?;
        }
        let code_left = WIDTH - MARGIN - CODE;
        let code_top = BAND + 24.0;
        pen.code(code_left, code_top, CODE, self.qr, self.kind)?;
        let under = pen.paragraph(code_left, code_top + CODE + 14.0, CODE, self.kind, Weight::Bold, 9.5, INK)?;
        let under = pen.paragraph(code_left, under + 2.0, CODE, &self.check.value, Weight::Regular, 8.5, FAINT)?;
        let under = match self.check.english {
            Some(english) => pen.paragraph(code_left, under + 2.0, CODE, english, Weight::Regular, 7.5, FAINT)?,
            None => under,
        };

        let y = y.max(under) + 16.0;
        pen.rectangle(MARGIN, y - 14.0, width, 0.8, RULE)?;
        let y = self.table(pen, y + 8.0, width)?;
        if y > HEIGHT - 30.0 { Err(NoPaper::TooMuch) } else { Ok(()) }
    }

    fn table(&self, pen: &mut Pen<'_, '_>, top: f32, width: f32) -> Result<f32, NoPaper> {
        let title = match self.doses_title.english {
            Some(english) => format!("{} · {english}", self.doses_title.value),
            None => self.doses_title.value.clone(),
        };
        let mut y = pen.paragraph(MARGIN, top, width, &title, Weight::Bold, 11.5, INK)? + 8.0;
        let lefts = self.column_lefts(pen.fonts, width)?;
        let mut bottom = y;
        for (column, (x, share)) in self.columns.iter().zip(&lefts) {
            let mut at = pen.paragraph(*x, y, *share, column.label, Weight::Bold, LABEL, FAINT)?;
            if let Some(english) = column.english {
                at = pen.paragraph(*x, at, *share, english, Weight::Regular, 7.0, FAINT)?;
            }
            bottom = bottom.max(at);
        }
        y = bottom + 4.0;
        for row in &self.doses {
            pen.rectangle(MARGIN, y - 9.0, width, 0.5, RULE)?;
            let mut bottom = y;
            for (cell, (x, share)) in row.iter().zip(&lefts) {
                bottom = bottom.max(pen.paragraph(*x, y + 4.0, *share, cell, Weight::Regular, CELL, INK)?);
            }
            y = bottom + 6.0;
        }
        Ok(y)
    }

    /// Where each column begins and how wide it may be: as wide as what is in it, but the widest give way where there is not the room.
    fn column_lefts(&self, fonts: &Fonts, width: f32) -> Result<Vec<(f32, f32)>, NoPaper> {
        let mut needs = Vec::new();
        for (at, column) in self.columns.iter().enumerate() {
            let mut need = fonts.width(column.label, Weight::Bold)? * LABEL;
            for cell in self.doses.iter().filter_map(|row| row.get(at)) {
                need = need.max(fonts.width(cell, Weight::Regular)? * CELL);
            }
            needs.push(need + BETWEEN);
        }
        let mut narrow = needs.clone();
        narrow.sort_by(f32::total_cmp);
        let (mut left, mut cap) = (width, width);
        for (at, need) in narrow.iter().enumerate() {
            let share = left / f32::from(u16::try_from(narrow.len() - at).unwrap_or(1));
            if *need > share {
                cap = share;
                break;
            }
            left -= need;
        }
        let mut x = MARGIN;
        let place = |need: f32| {
            let here = (x, need.min(cap) - BETWEEN);
            x += need.min(cap);
            here
        };
        Ok(needs.into_iter().map(place).collect())
    }
}

/// What draws on the page, and keeps what it drew for who has it read aloud.
struct Pen<'s, 'a> {
    surface: Surface<'s>,
    fonts: &'a Fonts,
    tags: Vec<Node>,
    language: &'a str,
}

impl Pen<'_, '_> {
    /// Draws something that is one part of the page to a reader.
    fn tagged<T>(
        &mut self,
        tag: impl Into<krilla::tagging::TagKind>,
        draw: impl FnOnce(&mut Self) -> Result<T, NoPaper>,
    ) -> Result<T, NoPaper> {
        let language = self.language;
        let id = self.surface.start_tagged(ContentTag::Span(SpanTag::empty().with_lang(Some(language))));
        let drawn = draw(self);
        self.surface.end_tagged();
        self.tags.push(TagGroup::with_children(tag, vec![id.into()]).into());
        drawn
    }

    /// A rectangle that says nothing.
    fn rectangle(&mut self, x: f32, y: f32, width: f32, height: f32, color: Color) -> Result<(), NoPaper> {
        let rect = Rect::from_xywh(x, y, width, height).ok_or(NoPaper::TooMuch)?;
        self.surface.start_tagged(ContentTag::Artifact(Artifact::new(ArtifactType::Other, Some(rect))));
        let mut path = PathBuilder::new();
        path.push_rect(rect);
        self.fill(color);
        if let Some(path) = path.finish() {
            self.surface.draw_path(&path);
        }
        self.surface.end_tagged();
        Ok(())
    }

    fn fill(&mut self, [red, green, blue]: Color) {
        self.surface.set_fill(Some(Fill { paint: rgb::Color::new(red, green, blue).into(), ..Fill::default() }));
    }

    /// The size at which a text fits a width, at most this one.
    fn fitting(&self, text: &str, weight: Weight, width: f32, size: f32) -> Result<f32, NoPaper> {
        Ok((width / self.fonts.width(text, weight)?.max(0.01)).min(size))
    }

    fn line(&mut self, x: f32, y: f32, text: &str, weight: Weight, size: f32, color: Color) -> Result<(), NoPaper> {
        self.fill(color);
        let mut x = x;
        for run in self.fonts.runs(text, weight)? {
            self.surface.draw_glyphs(Point::from_xy(x, y), &run.glyphs, run.font, run.text, size, false);
            x += run.width * size;
        }
        Ok(())
    }

    /// A text in as many lines as it needs; where the next one begins.
    #[expect(clippy::too_many_arguments, reason = "where, how wide, what, and how it looks")]
    fn paragraph(
        &mut self,
        x: f32,
        y: f32,
        width: f32,
        text: &str,
        weight: Weight,
        size: f32,
        color: Color,
    ) -> Result<f32, NoPaper> {
        let lines = self.lines(text, weight, width / size)?;
        self.tagged(Tag::P, |pen| {
            let mut y = y;
            for line in &lines {
                pen.line(x, y, line, weight, size, color)?;
                y += size * 1.4;
            }
            Ok(y)
        })
    }

    /// Broken between words; a word that is wider than a line, between what is drawn as one.
    fn lines(&self, text: &str, weight: Weight, width: f32) -> Result<Vec<String>, NoPaper> {
        let mut lines = Vec::new();
        // The last line, and how wide it is.
        let (mut line, mut taken) = (String::new(), 0.0);
        let space = self.fonts.width(" ", weight)?;
        for word in text.split_whitespace() {
            let need = self.fonts.width(word, weight)?;
            if !line.is_empty() && taken + space + need <= width {
                line.push(' ');
                line.push_str(word);
                taken += space + need;
                continue;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            if need <= width {
                (line, taken) = (word.to_owned(), need);
                continue;
            }
            for piece in self.fonts.clusters(word, weight)? {
                let longer = format!("{line}{piece}");
                let need = self.fonts.width(&longer, weight)?;
                if !line.is_empty() && need > width {
                    lines.push(std::mem::replace(&mut line, piece.to_owned()));
                    taken = self.fonts.width(piece, weight)?;
                } else {
                    (line, taken) = (longer, need);
                }
            }
        }
        if !line.is_empty() {
            lines.push(line);
        }
        Ok(lines)
    }

    /// A label and what it labels; where the next one begins.
    fn field(&mut self, x: f32, y: f32, width: f32, field: &Field, size: f32) -> Result<f32, NoPaper> {
        let label = match field.english {
            Some(english) => format!("{} · {english}", field.label),
            None => field.label.to_owned(),
        };
        let y = self.paragraph(x, y, width, &label, Weight::Regular, 8.0, FAINT)?;
        Ok(self.paragraph(x, y + 4.0, width, &field.value, Weight::Bold, size, INK)? + 6.0)
    }

    /// The code, with its quiet zone.
    fn code(&mut self, x: f32, y: f32, side: f32, qr: &Qr, kind: &str) -> Result<(), NoPaper> {
        let count = |number: usize| f32::from(u16::try_from(number).unwrap_or(u16::MAX));
        let module = side / (count(qr.width()) + 8.0);
        let mut path = PathBuilder::new();
        // A stroke for each run, in modules, which are whole numbers: it takes a third of the bytes of rectangles in points, and of the time
        // in which they are packed.
        for (row, from, len) in qr.runs() {
            path.move_to(count(from), count(row));
            path.line_to(count(from + len), count(row));
        }
        let id = self.surface.start_tagged(ContentTag::Other);
        let quiet = 4.0 * module;
        // The middle of the first row lies half a module below its edge.
        let origin = Transform::from_row(module, 0.0, 0.0, module, x + quiet, y + quiet + module / 2.0);
        self.surface.push_transform(&origin);
        self.surface.set_fill(None);
        self.surface.set_stroke(Some(Stroke {
            paint: rgb::Color::new(0, 0, 0).into(),
            width: 1.0,
            ..Stroke::default()
        }));
        if let Some(path) = path.finish() {
            self.surface.draw_path(&path);
        }
        self.surface.set_stroke(None);
        self.surface.pop();
        self.surface.end_tagged();
        let tag = Tag::Figure(Some(kind.to_owned()));
        self.tags.push(TagGroup::with_children(tag, vec![id.into()]).into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::qr::Payload;
    use super::super::words::{english, words};
    use super::*;

    fn paper<'a>(language: &'a str, programme: &'a str, qr: &'a Qr, name: &str) -> Paper<'a> {
        let (own, english) = (words(language).expect("its words"), english());
        let both = (own != english).then_some(english);
        macro_rules! field {
            ($word:ident, $value:expr) => {
                Field { label: own.$word, english: both.map(|words| words.$word), value: $value.to_owned() }
            };
        }
        Paper {
            language,
            programme,
            title: field!(title, own.title),
            fields: vec![
                field!(name, name),
                field!(born, "1975-04-02"),
                field!(document, "XXXXXXXX1234"),
                field!(issuer, "Ministry of Health and Family Welfare"),
                field!(number, "01:IN:BERTH/9Q4J2M7X#K"),
                field!(issued, "2021-05-20"),
            ],
            doses_title: field!(doses, own.doses),
            columns: vec![
                field!(dose, ""),
                field!(date, ""),
                field!(vaccine, ""),
                field!(manufacturer, ""),
                field!(batch, ""),
                field!(facility, ""),
            ],
            doses: vec![
                [
                    "1/2",
                    "2021-03-02",
                    "Covishield",
                    "Serum Institute of India",
                    "4120Z001",
                    "PHC Ward 7, Pune, Maharashtra",
                ]
                .map(str::to_owned)
                .to_vec(),
                [
                    "2/2",
                    "2021-05-20",
                    "Covishield",
                    "Serum Institute of India",
                    "4121Z040",
                    "PHC Ward 7, Pune, Maharashtra",
                ]
                .map(str::to_owned)
                .to_vec(),
            ],
            qr,
            kind: "EU Digital COVID Certificate",
            check: field!(check, own.check),
            issued: (2021, 5, 20),
        }
    }

    #[test]
    fn a_paper_is_set_in_every_language_there_is() {
        let fonts = Fonts::new();
        let text = format!("HC1:{}", "6BF+70790T9WJWG.FKY*4GO0.O1CV2".repeat(14));
        let qr = Qr::of(Payload::EuDcc(&text)).expect("it fits");
        for language in super::super::words::languages() {
            let name = if matches!(language, "hi" | "mr") {
                "कृष्णा विष्णू क्षीरसागर"
            } else {
                "Zoë Ångström-Łukasiewicz"
            };
            let pdf = paper(language, "Vaccination Covid-19 · टीकाकरण 2021", &qr, name).pdf(&fonts).expect(language);
            assert!(pdf.starts_with(b"%PDF-") && pdf.len() < 90_000, "{language}: {}", pdf.len());
            if let Some(dir) = std::env::var_os("BERTH_PAPERS") {
                std::fs::write(std::path::Path::new(&dir).join(format!("{language}.pdf")), pdf).expect("a directory");
            }
        }
    }
}
