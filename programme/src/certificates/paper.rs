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

use super::fonts::{Fonts, Line, NoLetter, Weight};
use super::qr::Qr;

const WIDTH: f32 = 595.28;
const HEIGHT: f32 = 841.89;
const MARGIN: f32 = 48.0;
const BAND: f32 = 92.0;
/// The side of the code with its quiet zone: 85 mm, so that the densest one has modules of half a millimetre, which a telephone reads.
const CODE: f32 = 241.0;
const GAP: f32 = 22.0;
/// Sizes of the table of doses: of a label, of its English, of a cell, and the room between two columns.
const LABEL: f32 = 8.5;
const ENGLISH: f32 = 7.0;
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
        let programme = pen.fonts.fixed(self.programme, Weight::Bold, f32::INFINITY)?;
        pen.tagged(Tag::Hn(NonZeroU16::MIN, Some(self.programme.to_owned())), |pen| {
            pen.fitted(MARGIN, 44.0, &programme, width, 20.0, WHITE);
        });
        let title =
            pen.fonts.fixed(&both(self.title.value.as_str(), self.title.english), Weight::Regular, f32::INFINITY)?;
        pen.tagged(Tag::P, |pen| pen.fitted(MARGIN, 70.0, &title, width, 14.0, WHITE));

        let left = MARGIN;
        let column = width - CODE - GAP;
        let mut y = BAND + 38.0;
        for field in &self.fields {
            y = pen.field(left, y, column, field, 12.5)?;
        }
        let code_left = WIDTH - MARGIN - CODE;
        let code_top = BAND + 24.0;
        pen.code(code_left, code_top, CODE, self.qr, self.kind)?;
        let kind = Style { weight: Weight::Bold, size: 9.5, color: INK };
        let check = Style { weight: Weight::Regular, size: 8.5, color: FAINT };
        let under = pen.fixed(code_left, code_top + CODE + 14.0, CODE, self.kind, kind)?;
        let under = pen.fixed(code_left, under + 2.0, CODE, &self.check.value, check)?;
        let under = match self.check.english {
            Some(english) => pen.fixed(code_left, under + 2.0, CODE, english, Style { size: 7.5, ..check })?,
            None => under,
        };

        let y = y.max(under) + 16.0;
        pen.rectangle(MARGIN, y - 14.0, width, 0.8, RULE)?;
        let y = self.table(pen, y + 8.0, width)?;
        if y > HEIGHT - 30.0 { Err(NoPaper::TooMuch) } else { Ok(()) }
    }

    fn table(&self, pen: &mut Pen<'_, '_>, top: f32, width: f32) -> Result<f32, NoPaper> {
        let title = both(&self.doses_title.value, self.doses_title.english);
        let heading = Style { weight: Weight::Bold, size: 11.5, color: INK };
        let mut y = pen.fixed(MARGIN, top, width, &title, heading)? + 8.0;
        let lefts = self.column_lefts(pen.fonts, width)?;
        let mut bottom = y;
        let label = Style { weight: Weight::Bold, size: LABEL, color: FAINT };
        for (column, (x, share)) in self.columns.iter().zip(&lefts) {
            let mut at = pen.heading(*x, y, *share, column.label, label)?;
            if let Some(english) = column.english {
                at = pen.heading(*x, at, *share, english, Style { weight: Weight::Regular, size: ENGLISH, ..label })?;
            }
            bottom = bottom.max(at);
        }
        y = bottom + 4.0;
        for row in &self.doses {
            pen.rectangle(MARGIN, y - 9.0, width, 0.5, RULE)?;
            let mut bottom = y;
            for (cell, (x, share)) in row.iter().zip(&lefts) {
                let lines = pen.fonts.lines(cell, CELLS.weight, share / CELL)?;
                bottom = bottom.max(pen.paragraph(*x, y + 4.0, &lines, CELLS));
            }
            y = bottom + 6.0;
        }
        Ok(y)
    }

    /// Where each column begins and how wide it may be: as wide as what is in it, but the widest give way where there is not the room.
    fn column_lefts(&self, fonts: &Fonts, width: f32) -> Result<Vec<(f32, f32)>, NoPaper> {
        let mut needs = Vec::new();
        for (at, column) in self.columns.iter().enumerate() {
            let label = fonts.fixed(column.label, Weight::Bold, f32::INFINITY)?;
            let mut need = label.iter().map(|line| line.width).sum::<f32>() * LABEL;
            if let Some(english) = column.english {
                let english = fonts.fixed(english, Weight::Regular, f32::INFINITY)?;
                need = need.max(english.iter().map(|line| line.width).sum::<f32>() * ENGLISH);
            }
            for cell in self.doses.iter().filter_map(|row| row.get(at)) {
                need = need.max(fonts.line(cell, CELLS.weight)?.width * CELL);
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

/// A text with its English, where that is another.
fn both(own: &str, english: Option<&str>) -> String {
    match english {
        Some(english) => format!("{own} · {english}"),
        None => own.to_owned(),
    }
}

/// How a text looks.
#[derive(Clone, Copy)]
struct Style {
    weight: Weight,
    size: f32,
    color: Color,
}

/// What stands in the table of doses.
const CELLS: Style = Style { weight: Weight::Regular, size: CELL, color: INK };

/// What draws on the page, and keeps what it drew for who has it read aloud.
struct Pen<'s, 'a> {
    surface: Surface<'s>,
    fonts: &'a Fonts,
    tags: Vec<Node>,
    language: &'a str,
}

impl Pen<'_, '_> {
    /// Draws something that is one part of the page to a reader.
    fn tagged<T>(&mut self, tag: impl Into<krilla::tagging::TagKind>, draw: impl FnOnce(&mut Self) -> T) -> T {
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

    fn line(&mut self, x: f32, y: f32, line: &Line, size: f32, color: Color) {
        self.fill(color);
        let mut x = x;
        for run in &line.runs {
            let text = line.text.get(run.text.clone()).unwrap_or_default();
            self.surface.draw_glyphs(Point::from_xy(x, y), &run.glyphs, run.font.clone(), text, size, false);
            x += run.width * size;
        }
    }

    /// On one line of this width, as large as it fits, at most this size.
    fn fitted(&mut self, x: f32, y: f32, lines: &[Line], width: f32, size: f32, color: Color) {
        for line in lines {
            self.line(x, y, line, (width / line.width.max(0.01)).min(size), color);
        }
    }

    /// Lines beneath each other; where the next one begins.
    fn paragraph(&mut self, x: f32, y: f32, lines: &[Line], style: Style) -> f32 {
        self.tagged(Tag::P, |pen| {
            let mut y = y;
            for line in lines {
                pen.line(x, y, line, style.size, style.color);
                y += style.size * 1.4;
            }
            y
        })
    }

    /// A paragraph that stands on every paper of the programme.
    fn fixed(&mut self, x: f32, y: f32, width: f32, text: &str, style: Style) -> Result<f32, NoPaper> {
        let lines = self.fonts.fixed(text, style.weight, width / style.size)?;
        Ok(self.paragraph(x, y, &lines, style))
    }

    /// The heading of a column, whose width is another on each paper: kept where it fits on one line.
    fn heading(&mut self, x: f32, y: f32, width: f32, text: &str, style: Style) -> Result<f32, NoPaper> {
        let mut lines = self.fonts.fixed(text, style.weight, f32::INFINITY)?;
        if !lines.iter().all(|line| line.fits(width / style.size)) {
            lines = self.fonts.lines(text, style.weight, width / style.size)?.into();
        }
        Ok(self.paragraph(x, y, &lines, style))
    }

    /// A label and what it labels; where the next one begins.
    fn field(&mut self, x: f32, y: f32, width: f32, field: &Field, size: f32) -> Result<f32, NoPaper> {
        let label = Style { weight: Weight::Regular, size: 8.0, color: FAINT };
        let y = self.fixed(x, y, width, &both(field.label, field.english), label)?;
        let value = Style { weight: Weight::Bold, size, color: INK };
        let lines = self.fonts.lines(&field.value, value.weight, width / size)?;
        Ok(self.paragraph(x, y + 4.0, &lines, value) + 6.0)
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

    #[test]
    fn each_word_of_it_is_drawn_and_the_same_paper_is_the_same_bytes() {
        let fonts = Fonts::new();
        let (one, other) = ("HC1:6BF+70790T9WJWG", "HC1:6BF+70790T9WJWH");
        let qr = Qr::of(Payload::EuDcc(one)).expect("it fits");
        let set = |change: &dyn Fn(&mut Paper<'_>)| {
            let mut paper = paper("fr", "Vaccination 2021", &qr, "Zoë Łukasiewicz");
            change(&mut paper);
            paper.pdf(&fonts).expect("it can be set")
        };
        let as_it_is = set(&|_| {});
        assert!(set(&|_| {}) == as_it_is);
        let changed = |what: &str, change: &dyn Fn(&mut Paper<'_>)| {
            assert!(set(change) != as_it_is, "{what} is not drawn");
        };
        let whole = paper("fr", "Vaccination 2021", &qr, "Zoë Łukasiewicz");
        for at in 0..whole.fields.len() {
            changed(&format!("field {at}"), &|paper| paper.fields[at].value = "1".to_owned());
            changed(&format!("label {at}"), &|paper| paper.fields[at].label = "1");
            changed(&format!("English label {at}"), &|paper| paper.fields[at].english = Some("1"));
        }
        for at in 0..whole.columns.len() {
            changed(&format!("column {at}"), &|paper| paper.columns[at].label = "1");
            changed(&format!("English column {at}"), &|paper| paper.columns[at].english = Some("1"));
            for row in 0..whole.doses.len() {
                changed(&format!("cell {row}, {at}"), &|paper| paper.doses[row][at] = "9".to_owned());
            }
        }
        changed("programme", &|paper| paper.programme = "1");
        changed("title", &|paper| paper.title.value = "1".to_owned());
        changed("doses", &|paper| paper.doses_title.value = "1".to_owned());
        changed("check", &|paper| paper.check.value = "1".to_owned());
        changed("kind", &|paper| paper.kind = "1");
        let another = Qr::of(Payload::EuDcc(other)).expect("it fits");
        let paper = Paper { qr: &another, ..paper("fr", "Vaccination 2021", &qr, "Zoë Łukasiewicz") };
        assert!(paper.pdf(&fonts).expect("it can be set") != as_it_is, "the code is not drawn");
    }

    #[test]
    fn what_cannot_be_set_is_refused() {
        let fonts = Fonts::new();
        let qr = Qr::of(Payload::EuDcc("HC1:6BF+70790T9WJWG")).expect("it fits");
        let mut long = paper("en", "Vaccination 2021", &qr, "Asha Bharti");
        long.doses = vec![long.doses[0].clone(); 60];
        assert_eq!(long.pdf(&fonts), Err(NoPaper::TooMuch));
        let chinese = paper("en", "Vaccination 2021", &qr, "王");
        assert_eq!(chinese.pdf(&fonts), Err(NoPaper::Letter(NoLetter('王'))));
    }

    #[test]
    fn a_column_that_is_as_wide_as_what_is_in_it_breaks_no_word() {
        let fonts = Fonts::new();
        let qr = Qr::of(Payload::EuDcc("HC1:6BF+70790T9WJWG")).expect("it fits");
        let mut paper = paper("en", "Vaccination 2021", &qr, "Asha Bharti");
        for number in 0..1000 {
            paper.doses = vec![paper.doses[0].clone()];
            paper.doses[0][4] = format!("37K{number:03}");
            let lefts = paper.column_lefts(&fonts, WIDTH - 2.0 * MARGIN).expect("its letters");
            let lines = fonts.lines(&paper.doses[0][4], CELLS.weight, lefts[4].1 / CELL).expect("its letters");
            assert_eq!(lines.len(), 1, "37K{number:03}");
        }
        let mut paper = super::tests::paper("hi", "टीकाकरण 2021", &qr, "Asha Bharti");
        paper.doses = vec![vec!["1".to_owned(); 6]];
        let lefts = paper.column_lefts(&fonts, WIDTH - 2.0 * MARGIN).expect("its letters");
        for (column, (_, share)) in paper.columns.iter().zip(lefts) {
            let english = column.english.expect("it is in Hindi");
            let lines = fonts.lines(english, Weight::Regular, share / ENGLISH).expect("its letters");
            assert_eq!(lines.len(), 1, "{english}");
        }
    }

    #[test]
    fn no_line_is_wider_than_its_room() {
        let fonts = Fonts::new();
        let texts = [
            "a name of many words that goes on and on until it needs another line",
            "Донаудампфшиффартсгезельшафтскапитэн",
            "कृष्णाविष्णूक्षीरसागरकृष्णाविष्णूक्षीरसागर और",
            "x",
        ];
        for (text, width) in texts.into_iter().flat_map(|text| [(text, 4.0), (text, 11.0), (text, 1000.0)]) {
            let lines = fonts.lines(text, Weight::Regular, width).expect("its letters");
            assert!(lines.iter().all(|line| line.width <= width + 0.1), "{text} in {width}");
            let again: String =
                lines.iter().flat_map(|line| line.text.chars()).filter(|letter| *letter != ' ').collect();
            assert_eq!(again, text.replace(' ', ""), "nothing is lost");
            assert_eq!(lines.len() == 1, fonts.line(text, Weight::Regular).expect("its letters").width <= width);
        }
    }
}
