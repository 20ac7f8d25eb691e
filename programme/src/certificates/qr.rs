//! QR symbols of certificates, as SVG and PNG: the text of each kind in the segments that its readers expect.
//!
//! An EU certificate is alphanumeric and drawn at level Q, as its specification asks; a SMART Health Card is exactly two segments, `shc:/` as
//! bytes and then digits; a verifiable credential is the bytes of its ZIP. What does not fit the level is drawn at the next lower one.

use std::fmt::Write;

use qrcode::bits::Bits;
use qrcode::{Color, EcLevel, QrCode, Version};

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
    dark: Vec<bool>,
    width: usize,
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
        let code = code.ok_or(TooLong)?;
        let width = code.width();
        Ok(Qr { dark: code.into_colors().into_iter().map(|color| color == Color::Dark).collect(), width })
    }

    /// Modules on a side, without the quiet zone.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Each row of dark modules as runs: row, first column, length.
    pub fn runs(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        self.dark.chunks(self.width).enumerate().flat_map(|(y, row)| {
            let mut x = 0;
            row.chunk_by(|a, b| a == b).filter_map(move |run| {
                let (from, dark) = (x, run.first() == Some(&true));
                x += run.len();
                dark.then_some((y, from, run.len()))
            })
        })
    }

    /// As SVG, one path, for screen and print of any size.
    #[must_use]
    pub fn svg(&self) -> String {
        let side = self.width + 2 * QUIET;
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
        let side = (self.width + 2 * QUIET) * scale;
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

fn plain(bytes: &[u8], level: EcLevel) -> Option<QrCode> {
    QrCode::with_error_correction_level(bytes, level).ok()
}

/// `shc:/` as bytes, all behind it as digits.
fn two_segments(text: &str, level: EcLevel) -> Option<QrCode> {
    let (scheme, digits) = text.split_at_checked(text.find('/')? + 1)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    (1..=40).map(Version::Normal).find_map(|version| {
        let mut bits = Bits::new(version);
        bits.push_byte_data(scheme.as_bytes()).ok()?;
        bits.push_numeric_data(digits.as_bytes()).ok()?;
        bits.push_terminator(level).ok()?;
        QrCode::with_bits(bits, level).ok()
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
            let module = inside && qr.dark[(y - 4) * qr.width() + x - 4];
            assert_eq!(dark(3 * x + 1, 3 * y + 1), module, "module {x}, {y}");
        }
        let drawn: usize = qr.runs().map(|(.., len)| len).sum();
        assert_eq!(drawn, qr.dark.iter().filter(|dark| **dark).count());
        assert_eq!(qr.svg().matches('M').count(), qr.runs().count());
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
