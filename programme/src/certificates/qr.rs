//! QR symbols of certificates, as SVG and PNG: the text of each kind in the segments that its readers expect.
//!
//! An EU certificate is alphanumeric and drawn at level Q, as its specification asks; a SMART Health Card is exactly two segments, `shc:/` as
//! bytes and then digits; a verifiable credential is the bytes of its ZIP. What does not fit the level is drawn at the next lower one.

use std::fmt::Write;
use std::sync::OnceLock;

use qrcode::bits::{Bits, encode_auto};
use qrcode::canvas::{Canvas, MaskPattern};
use qrcode::{Color, EcLevel, Version, ec};

use super::modules::Modules;

/// Light modules around the symbol, as ISO 18004 asks.
const QUIET: usize = 4;

/// What a symbol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// A text that starts with `HC1:`.
    EuDcc(&'a str),
    /// `shc:/` and digits.
    SmartHealthCard(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// More than the largest symbol holds, or not what its kind consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate does not fit one QR symbol")]
pub struct TooLong;

/// A symbol: dark and light modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qr {
    modules: Modules,
}

impl Qr {
    /// The smallest symbol that holds the payload, at the best level it fits at.
    ///
    /// # Errors
    /// It fits at none.
    pub fn of(payload: Payload<'_>) -> Result<Qr, TooLong> {
        let levels = [EcLevel::Q, EcLevel::M, EcLevel::L];
        let code = match payload {
            Payload::EuDcc(text) => levels.into_iter().find_map(|level| plain(text.as_bytes(), level)),
            // Its specification leaves the level open; the largest that its limit of 1,195 characters is made for is L.
            Payload::SmartHealthCard(text) => two_segments(text, EcLevel::L),
            Payload::Bytes(bytes) => levels.into_iter().skip(1).find_map(|level| plain(bytes, level)),
        };
        code.ok_or(TooLong)
    }

    /// The symbol of these bits, under the mask that ISO 18004 would have.
    fn drawn(bits: Bits, level: EcLevel) -> Option<Qr> {
        let version = bits.version();
        let (data, check) = ec::construct_codewords(&bits.into_bytes(), version, level).ok()?;
        let mut canvas = Canvas::new(version, level);
        canvas.draw_all_functional_patterns();
        canvas.draw_data(&data, &check);
        let plain = modules(canvas.clone());
        let masked = masks(&canvas, &plain, version, level).iter().map(|mask| plain.differing(mask));
        masked.min_by_key(Modules::penalty).map(|modules| Qr { modules })
    }

    /// Modules on a side, without the quiet zone.
    #[must_use]
    pub fn width(&self) -> usize {
        self.modules.width()
    }

    /// Each row of dark modules as runs: row, first column, length.
    pub fn runs(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        self.modules.rows().iter().enumerate().flat_map(move |(y, row)| {
            let mut x = 0;
            std::iter::from_fn(move || {
                let from = (x..self.width()).find(|x| row.has(*x))?;
                let end = (from..self.width()).find(|x| !row.has(*x)).unwrap_or(self.width());
                x = end;
                Some((y, from, end - from))
            })
        })
    }

    /// As SVG, one path, for screen and print of any size.
    #[must_use]
    pub fn svg(&self) -> String {
        let side = self.width() + 2 * QUIET;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\" role=\"img\">\
             <title>QR</title><rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/><path fill=\"#000\" d=\""
        );
        for (y, x, len) in self.runs() {
            let (y, x) = (y + QUIET, x + QUIET);
            write!(out, "M{x} {y}h{len}v1h-{len}z").expect("a string takes all");
        }
        out.push_str("\"/></svg>\n");
        out
    }

    /// As PNG of one bit a pixel, each module `scale` pixels wide.
    #[must_use]
    pub fn png(&self, scale: u8) -> Vec<u8> {
        let scale = usize::from(scale.max(1));
        let side = (self.width() + 2 * QUIET) * scale;
        let mut pixels = vec![0xff_u8; side.div_ceil(8) * side];
        for (y, x, len) in self.runs() {
            let (top, left) = ((y + QUIET) * scale, (x + QUIET) * scale);
            for row in pixels.chunks_mut(side.div_ceil(8)).skip(top).take(scale) {
                for pixel in left..left + len * scale {
                    if let Some(byte) = row.get_mut(pixel / 8) {
                        *byte &= !(0x80 >> (pixel % 8));
                    }
                }
            }
        }
        let mut out = Vec::new();
        let side = u32::try_from(side).unwrap_or(u32::MAX);
        let mut encoder = png::Encoder::new(&mut out, side, side);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&pixels))
            .expect("a vector takes all, and the size is that of the pixels");
        out
    }
}

const MASKS: [MaskPattern; 8] = [
    MaskPattern::Checkerboard,
    MaskPattern::HorizontalLines,
    MaskPattern::VerticalLines,
    MaskPattern::DiagonalLines,
    MaskPattern::LargeCheckerboard,
    MaskPattern::Fields,
    MaskPattern::Diamonds,
    MaskPattern::Meadow,
];

fn modules(canvas: Canvas) -> Modules {
    Modules::of(canvas.into_colors().into_iter().map(|color| color == Color::Dark))
}

/// What each mask changes of a symbol of this size and level: the same whatever it says, so it is found once. (The crate's own way to the
/// best mask takes a tenth of the time that a whole paper does.)
fn masks(canvas: &Canvas, plain: &Modules, version: Version, level: EcLevel) -> &'static [Modules] {
    static FOUND: [[OnceLock<Vec<Modules>>; 4]; 40] = [const { [const { OnceLock::new() }; 4] }; 40];
    let size = match version {
        Version::Normal(size) | Version::Micro(size) => usize::from(size.unsigned_abs()),
    };
    let found = &FOUND[(size.clamp(1, 40)) - 1][level as usize];
    found.get_or_init(|| {
        let masked = MASKS.into_iter().map(|mask| {
            let mut canvas = canvas.clone();
            canvas.apply_mask(mask);
            modules(canvas).differing(plain)
        });
        masked.collect()
    })
}

fn plain(bytes: &[u8], level: EcLevel) -> Option<Qr> {
    Qr::drawn(encode_auto(bytes, level).ok()?, level)
}

/// `shc:/` as bytes, all behind it as digits.
fn two_segments(text: &str, level: EcLevel) -> Option<Qr> {
    let (scheme, digits) = text.split_at_checked(text.find('/')? + 1)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    (1..=40).map(Version::Normal).find_map(|version| {
        let mut bits = Bits::new(version);
        bits.push_byte_data(scheme.as_bytes()).ok()?;
        bits.push_numeric_data(digits.as_bytes()).ok()?;
        bits.push_terminator(level).ok()?;
        Qr::drawn(bits, level)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_as_large_as_its_modules_and_quiet_around_them() {
        let qr = Qr::of(Payload::EuDcc("HC1:6BF+70790T9WJWG")).expect("it fits");
        let side = qr.width() + 8;
        let png = qr.png(3);
        let mut reader = png::Decoder::new(std::io::Cursor::new(&png)).read_info().expect("a picture");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a small one")];
        let info = reader.next_frame(&mut pixels).expect("a picture");
        assert_eq!((info.width as usize, info.height as usize), (3 * side, 3 * side));
        let row = (3 * side).div_ceil(8);
        let dark = |x: usize, y: usize| pixels[y * row + x / 8] >> (7 - x % 8) & 1 == 0;
        for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
            let inside = (4..side - 4).contains(&y) && (4..side - 4).contains(&x);
            let module = inside && qr.modules.rows()[y - 4].has(x - 4);
            assert_eq!(dark(3 * x + 1, 3 * y + 1), module, "module {x}, {y}");
        }
        let drawn: usize = qr.runs().map(|(.., len)| len).sum();
        let dark = |row: &super::super::modules::Line| (0..qr.width()).filter(|x| row.has(*x)).count();
        assert_eq!(drawn, qr.modules.rows().iter().map(dark).sum::<usize>());
        assert_eq!(qr.svg().matches('M').count(), qr.runs().count());
    }

    #[test]
    fn the_mask_is_the_one_that_the_crate_would_take_or_no_worse() {
        for text in ["HC1:6BF+70790T9WJWG", "HC1:0", &format!("HC1:{}", "A7 $%*+-./:".repeat(40))] {
            let ours = Qr::of(Payload::EuDcc(text)).expect("it fits");
            let theirs = qrcode::QrCode::with_error_correction_level(text, EcLevel::Q).expect("it fits");
            let theirs = Modules::of(theirs.into_colors().into_iter().map(|color| color == Color::Dark));
            assert_eq!(ours.width(), theirs.width());
            let (ours, theirs) = (ours.modules.penalty(), theirs.penalty());
            assert!(ours <= theirs, "{ours} {theirs}");
        }
    }

    #[test]
    fn what_is_too_long_at_one_level_is_drawn_at_the_next_and_at_none_refused() {
        let text = |len: usize| format!("HC1:{}", "A".repeat(len));
        let (short, long) = (text(1000), text(3000));
        assert!(Qr::of(Payload::EuDcc(&short)).expect("level Q").width() > 100);
        assert!(Qr::of(Payload::EuDcc(&long)).is_ok(), "level M or L");
        assert_eq!(Qr::of(Payload::EuDcc(&text(4300))), Err(TooLong));
        // 1,195 characters of a health card are 2,390 digits, and the largest symbol holds them.
        assert!(Qr::of(Payload::SmartHealthCard(&format!("shc:/{}", "56".repeat(1195)))).is_ok());
        assert_eq!(Qr::of(Payload::SmartHealthCard(&format!("shc:/{}", "56".repeat(3600)))), Err(TooLong));
        assert_eq!(Qr::of(Payload::SmartHealthCard("shc:/5x")), Err(TooLong), "digits alone");
    }
}
