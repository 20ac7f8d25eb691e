//! The one secret behind everything that is kept of people: 32 random bytes outside the data directory's journal. What it wraps or
//! derives is worth nothing without it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use ring::hmac;

/// Bytes of a key of any kind here.
pub(super) const KEY_BYTES: usize = 32;
/// Bytes that sealing adds behind the text.
pub(super) const TAG_BYTES: usize = 16;
/// Bytes of a wrapped key: nonce, key, tag.
pub(super) const WRAPPED_BYTES: usize = NONCE_LEN + KEY_BYTES + TAG_BYTES;

/// Why the master key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// The file cannot be read or made.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is there and is no key.
    #[error("is no key: it must hold 64 hexadecimal digits")]
    Shape,
    /// Others can read it.
    #[error("can be read by everybody (mode {0:03o}): chmod 600")]
    Open(u32),
}

/// The master key, and what is made of it.
pub struct MasterKey {
    secret: [u8; KEY_BYTES],
    wrap: LessSafeKey,
    prk: Prk,
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey")
    }
}

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

impl MasterKey {
    /// From its bytes.
    #[must_use]
    pub fn new(bytes: &[u8; KEY_BYTES]) -> MasterKey {
        let prk = Salt::new(HKDF_SHA256, b"berth people 1").extract(bytes);
        let wrap = aead_key(&derived(&prk, "wrap"));
        MasterKey { secret: *bytes, wrap, prk }
    }

    /// From 64 hexadecimal digits; what stands around them is passed over.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<MasterKey, MasterError> {
        let text = text.trim_ascii().as_bytes();
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut bytes = [0; KEY_BYTES];
        if text.len() != 2 * KEY_BYTES {
            return Err(MasterError::Shape);
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0]).ok_or(MasterError::Shape)? << 4 | digit(pair[1]).ok_or(MasterError::Shape)?;
        }
        Ok(MasterKey::new(&bytes))
    }

    /// From its file.
    ///
    /// # Errors
    /// There is none, it is no key, or everybody can read it.
    pub fn load(path: &Path) -> Result<MasterKey, MasterError> {
        let mut file = File::open(path)?;
        let mode = file.metadata()?.mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(MasterError::Open(mode));
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        MasterKey::parse(&text)
    }

    /// Makes one, in a file that must not be there yet, for its owner alone; synced, with its folder.
    ///
    /// # Errors
    /// The file cannot be made, or is there.
    pub fn make(path: &Path) -> Result<MasterKey, MasterError> {
        let bytes: [u8; KEY_BYTES] = random()?;
        let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push('\n');
        // Under its name it is there whole or not at all: a start that finds half a key refuses.
        let mut making = path.as_os_str().to_owned();
        making.push(".making");
        match fs::remove_file(&making) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&making)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // Unlike a rename, it fails where there is one.
        fs::hard_link(&making, path)?;
        fs::remove_file(&making)?;
        sync_folder(path)?;
        Ok(MasterKey::new(&bytes))
    }

    /// A key for one purpose. Nothing is learned of the master key, or of other purposes, from it.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; KEY_BYTES] {
        derived(&self.prk, purpose)
    }

    /// The bytes: to be wrapped under another master key, where prints go on being made of them.
    pub(super) fn secret(&self) -> &[u8; KEY_BYTES] {
        &self.secret
    }

    /// By which a data directory knows the key that it was made under.
    pub(super) fn check_value(&self) -> [u8; 16] {
        let mut check = [0; 16];
        check.copy_from_slice(&self.derive("check")[..16]);
        check
    }

    /// Seals a key of the table; `id` is bound to it, so that no two can be exchanged.
    pub(super) fn wrap(&self, id: u64, key: &[u8; KEY_BYTES]) -> io::Result<[u8; WRAPPED_BYTES]> {
        let sealed = seal(&self.wrap, &id.to_le_bytes(), key)?;
        let mut wrapped = [0; WRAPPED_BYTES];
        wrapped.copy_from_slice(&sealed);
        Ok(wrapped)
    }

    /// Opens it again; `None` if it was changed, or wrapped under another key or id.
    pub(super) fn unwrap_key(&self, id: u64, wrapped: &[u8; WRAPPED_BYTES]) -> Option<[u8; KEY_BYTES]> {
        open(&self.wrap, &id.to_le_bytes(), wrapped)?.as_slice().try_into().ok()
    }
}

fn derived(prk: &Prk, purpose: &str) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let info = [purpose.as_bytes()];
    let okm = prk.expand(&info, Length).expect("32 bytes are within what HKDF gives");
    okm.fill(&mut key).expect("as many bytes as were asked for");
    key
}

pub(super) fn aead_key(bytes: &[u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("a key of 32 bytes"))
}

/// Nonce, text and tag. The nonce is random: no key here seals so often that two meet.
pub(super) fn seal(key: &LessSafeKey, bound: &[u8], text: &[u8]) -> io::Result<Vec<u8>> {
    let nonce: [u8; NONCE_LEN] = random()?;
    let mut sealed = text.to_vec();
    let nonce_used = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce_used, Aad::from(bound), &mut sealed)
        .map_err(|_| io::Error::other("the text is too long to be sealed"))?;
    Ok([&nonce[..], &sealed].concat())
}

/// What [`seal`] has sealed; `None` if anything of it was changed.
pub(super) fn open(key: &LessSafeKey, bound: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut text = sealed.to_vec();
    let len = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(bound), &mut text).ok()?.len();
    text.truncate(len);
    Some(text)
}

pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

/// So that a new file is there after a power cut.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// A keyed digest by which what must not be kept in the open is found again: nothing can be guessed and tried without the key.
pub(super) struct Prints(hmac::Key);

/// What [`Prints`] says of a text.
pub(super) type Print = [u8; 16];

impl Prints {
    pub(super) fn new(master: &MasterKey, purpose: &str) -> Prints {
        Prints(hmac::Key::new(hmac::HMAC_SHA256, &master.derive(purpose)))
    }

    /// Of several pieces, each with its length.
    pub(super) fn of(&self, pieces: &[&[u8]]) -> Print {
        let mut context = hmac::Context::with_key(&self.0);
        for piece in pieces {
            context.update(&(piece.len() as u64).to_le_bytes());
            context.update(piece);
        }
        let mut print = [0; 16];
        print.copy_from_slice(&context.sign().as_ref()[..16]);
        print
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("people.key");
        assert!(matches!(MasterKey::load(&path), Err(MasterError::Io(_))));
        // One that was cut off in the making is in nobody's way.
        let making = dir.path().join("people.key.making");
        std::fs::write(&making, "abc").unwrap();
        let made = MasterKey::make(&path).unwrap();
        assert!(!making.exists());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(MasterKey::load(&path).unwrap().derive("a"), made.derive("a"));
        assert_ne!(made.derive("a"), made.derive("b"));
        assert!(matches!(MasterKey::make(&path), Err(MasterError::Io(_))), "nothing is written over");
        let mode = |mode| std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(matches!(MasterKey::load(&path), Err(MasterError::Open(0o644))));
        mode(0o600);
        std::fs::write(&path, "abc").unwrap();
        assert!(matches!(MasterKey::load(&path), Err(MasterError::Shape)));
        assert!(matches!(MasterKey::parse(&"g".repeat(64)), Err(MasterError::Shape)));
        assert_eq!(MasterKey::parse(&"AB".repeat(32)).unwrap().derive("a"), MasterKey::new(&[0xab; 32]).derive("a"));
    }

    #[test]
    fn what_is_sealed_opens_only_whole_and_in_its_place() {
        let master = MasterKey::new(&[1; 32]);
        let key = [7; KEY_BYTES];
        let wrapped = master.wrap(5, &key).unwrap();
        assert_eq!(master.unwrap_key(5, &wrapped), Some(key));
        assert_eq!(master.unwrap_key(6, &wrapped), None, "bound to its place");
        assert_eq!(MasterKey::new(&[2; 32]).unwrap_key(5, &wrapped), None, "another master key");
        assert!(!wrapped.windows(4).any(|four| four == [7; 4]), "the key does not stand there");
        for at in 0..wrapped.len() {
            let mut changed = wrapped;
            changed[at] ^= 1;
            assert_eq!(master.unwrap_key(5, &changed), None, "byte {at}");
        }
        assert_ne!(master.wrap(5, &key).unwrap(), wrapped, "each time with another nonce");
        assert_eq!(open(&aead_key(&key), b"", b"short"), None);
    }

    #[test]
    fn prints_are_keyed_by_secret_and_purpose_and_pieces_do_not_run_together() {
        let print = |secret: u8, purpose: &str, pieces: &[&[u8]]| {
            Prints::new(&MasterKey::new(&[secret; 32]), purpose).of(pieces)
        };
        let one = print(1, "phone", &[b"ab", b"c"]);
        assert_eq!(one, print(1, "phone", &[b"ab", b"c"]));
        for other in
            [print(2, "phone", &[b"ab", b"c"]), print(1, "doc", &[b"ab", b"c"]), print(1, "phone", &[b"a", b"bc"])]
        {
            assert_ne!(one, other);
        }
    }
}
