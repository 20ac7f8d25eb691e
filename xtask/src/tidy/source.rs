//! A file as the rules see it: its text, and for Rust the code and the comments apart, and which lines are tests.
//!
//! The split is a small lexer: it knows comments (nested too), strings of every kind, characters and lifetimes. So a rule
//! that forbids a word is not tripped by the word in a string or a comment.

use std::path::Path;

/// A file of the checkout.
pub(crate) struct Source {
    /// From the root of the checkout, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    code: String,
    comments: String,
    test_lines: Vec<bool>,
}

impl Source {
    pub(crate) fn new(path: &str, text: String) -> Source {
        let (code, comments) = if path.ends_with(".rs") { split(&text) } else { (String::new(), String::new()) };
        let test_lines = test_lines(path, &code);
        Source { path: path.to_owned(), text, code, comments, test_lines }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Every line with its number from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.text)
    }

    /// Every line of Rust with comments and the insides of strings blanked.
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.code)
    }

    /// Every line of Rust with all but comments blanked.
    pub(crate) fn comment_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.comments)
    }

    /// Whether a line belongs to tests: a file under `tests/`, one named `tests.rs`, or inside `#[cfg(test)]`.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.test_lines.get(line - 1).copied().unwrap_or(false)
    }
}

/// Whether `line` holds `word` with no letter, digit or underscore on either side.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(part) && !line[at + word.len()..].chars().next().is_some_and(part)
    })
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// What a stretch of Rust is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Quoted,
}

/// The code and the comments of a text, each as long as the text, with blanks for the rest.
fn split(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let mut at = 0;
    while at < chars.len() {
        let (kind, len) = stretch(&chars[at..], at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_'));
        for &c in &chars[at..at + len] {
            code.push(if c == '\n' || kind == Kind::Code { c } else { ' ' });
            comments.push(if c == '\n' || kind == Kind::Comment { c } else { ' ' });
        }
        at += len;
    }
    (code, comments)
}

/// The kind of what begins here, and how many characters it has (at least one, at most all).
fn stretch(rest: &[char], in_a_word: bool) -> (Kind, usize) {
    let len = match rest {
        ['/', '/', ..] => {
            return (Kind::Comment, rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()));
        }
        ['/', '*', ..] => return (Kind::Comment, block_comment(rest)),
        ['"', ..] => quoted(rest, 1, '"'),
        ['b' | 'c', '"', ..] if !in_a_word => quoted(rest, 2, '"'),
        ['b', '\'', ..] if !in_a_word => quoted(rest, 2, '\''),
        ['\'', '\\', ..] => quoted(rest, 1, '\''),
        // Otherwise a lifetime.
        ['\'', _, '\'', ..] => 3,
        ['r', '"' | '#', ..] if !in_a_word => raw(rest, 1),
        ['b' | 'c', 'r', '"' | '#', ..] if !in_a_word => raw(rest, 2),
        _ => 0,
    };
    if len == 0 { (Kind::Code, 1) } else { (Kind::Quoted, len) }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a string or character whose inside begins at `inside`.
fn quoted(rest: &[char], inside: usize, end: char) -> usize {
    let mut at = inside;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == end => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a raw string whose hashes begin at `hashes_at`; 0 when it is a raw identifier.
fn raw(rest: &[char], hashes_at: usize) -> usize {
    let hashes = rest[hashes_at..].iter().take_while(|&&c| c == '#').count();
    if rest.get(hashes_at + hashes) != Some(&'"') {
        return 0;
    }
    let mut at = hashes_at + hashes + 1;
    while at < rest.len() {
        let closes = rest[at] == '"' && rest[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
        if closes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    rest.len()
}

fn test_lines(path: &str, code: &str) -> Vec<bool> {
    let mut marked = vec![false; code.lines().count()];
    let in_tests = Path::new(path).components().any(|part| part.as_os_str() == "tests") || path.ends_with("/tests.rs");
    let whole = in_tests || code.lines().any(|line| line.starts_with("#![cfg(") && asks_for_test(line));
    if whole {
        marked.fill(true);
        return marked;
    }
    let lines: Vec<&str> = code.lines().collect();
    let mut index = 0;
    while index < lines.len() {
        let line = lines[index].trim_start();
        let opens = (line.starts_with("#[cfg(") && asks_for_test(line)) || line.starts_with("mod tests");
        let len = if opens { item_len(&lines[index..]) } else { 1 };
        marked[index..index + len].fill(opens);
        index += len;
    }
    marked
}

fn asks_for_test(attribute: &str) -> bool {
    has_word(attribute, "test") && !attribute.contains("not(test)")
}

/// How many lines the item that begins here has: to its `;`, or to the brace that closes it.
fn item_len(lines: &[&str]) -> usize {
    let (mut brackets, mut braces) = (0i64, 0i64);
    for (index, line) in lines.iter().enumerate() {
        for c in line.chars() {
            match c {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets -= 1,
                '{' => braces += 1,
                '}' => braces -= 1,
                _ => {}
            }
            if brackets == 0 && braces == 0 && (c == ';' || c == '}') {
                return index + 1;
            }
        }
    }
    lines.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        split(text).0
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        assert_eq!(code("a // b\nc"), "a     \nc");
        assert_eq!(code("a /* b /* c */ d */ e"), "a                   e");
        assert_eq!(code(r#"f("x \" y", b"z")"#), "f(        ,     )");
        assert_eq!(code(r##"f(r#"x " y"#, 1)"##), "f(          , 1)");
        assert_eq!(code("'\"' '\\'' b'\"' x"), "              x");
    }

    #[test]
    fn lifetimes_and_raw_identifiers_are_code() {
        assert_eq!(code("fn f<'a>(x: &'a str, r#type: u8)"), "fn f<'a>(x: &'a str, r#type: u8)");
        assert_eq!(code("for\"x\" bar\"\""), "for    bar  ");
    }

    #[test]
    fn comments_are_kept_apart() {
        assert_eq!(split("a // b\n\"// c\" /* d */").1, "  // b\n       /* d */");
    }

    #[test]
    fn an_open_end_does_not_panic() {
        for text in ["\"a", "\"\\", "r#\"a\"", "/* a", "'", "'\\", "b'", "r#"] {
            assert_eq!(code(text).chars().count(), text.chars().count(), "{text}");
        }
    }

    #[test]
    fn tests_are_told_from_the_rest() {
        let text = "//! x\n#[cfg(test)]\nuse a::{\n  b,\n};\nfn f() {}\n#[cfg(all(test, not(loom)))]\nmod tests {\n fn g() {}\n}\nfn h() {}\n";
        let source = Source::new("engine/src/a.rs", text.to_owned());
        let tests: Vec<usize> = (1..=11).filter(|&line| source.is_test(line)).collect();
        assert_eq!(tests, [2, 3, 4, 5, 7, 8, 9, 10]);
        assert!(Source::new("engine/tests/a.rs", "fn f() {}\n".to_owned()).is_test(1));
        assert!(Source::new("engine/src/a/tests.rs", "fn f() {}\n".to_owned()).is_test(1));
        assert!(!Source::new("engine/src/a.rs", "#[cfg(not(test))]\nfn f() {}\n".to_owned()).is_test(1));
    }

    #[test]
    fn words_have_edges() {
        assert!(has_word("a = unsafe {", "unsafe"));
        assert!(!has_word("forbid(unsafe_code)", "unsafe"));
    }
}
