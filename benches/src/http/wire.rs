//! As much of HTTP/1.1 as a client needs that sends only good requests.

/// Head and body of a whole answer.
#[must_use]
pub fn split(answer: &[u8]) -> Option<(&str, &[u8])> {
    let end = head_len(answer)?;
    Some((std::str::from_utf8(answer.get(..end)?).ok()?, answer.get(end..)?))
}

/// How long the head is, with its empty line; `None` while that has not come.
#[must_use]
pub fn head_len(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// The status of a head.
#[must_use]
pub fn status(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// A header of a head.
#[must_use]
pub fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// How long a whole answer is; `None` while its head has not come.
#[must_use]
pub fn answer_len(answer: &[u8]) -> Option<usize> {
    let end = head_len(answer)?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let body = header(head, "content-length").map_or(Some(0), |len| len.parse().ok())?;
    Some(end + body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_long_as_its_head_says() {
        let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\nx: y\r\n\r\nabcHTTP/1.1";
        assert_eq!(answer_len(answer), Some(answer.len() - 8));
        let (head, body) = split(answer).unwrap();
        assert_eq!((status(head), header(head, "X"), body), (Some(201), Some("y"), &b"abcHTTP/1.1"[..]));
        assert_eq!(answer_len(&answer[..40]), None);
    }
}
