//! The part of an HTTP/1.1 request that the sink needs.

/// A complete request.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) path: &'a str,
    pub(super) body: &'a [u8],
    /// Index after the last byte.
    pub(super) end: usize,
}

impl<'a> Request<'a> {
    /// The first request in these bytes, if it is complete.
    pub(super) fn first_of(bytes: &'a [u8]) -> Option<Self> {
        const LENGTH: &[u8] = b"content-length:";
        let body = find(bytes, b"\r\n\r\n")? + 4;
        let head = &bytes[..body];
        let of_length = |line: &&[u8]| {
            line.get(..LENGTH.len()).is_some_and(|name| name.eq_ignore_ascii_case(LENGTH))
        };
        let line = head.split(|byte| *byte == b'\n').find(of_length);
        let length = line.map_or(0, |line| digits(line[LENGTH.len()..].trim_ascii_start()));
        let end = body + usize::try_from(length).ok()?;
        let path = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        Some(Self { path: std::str::from_utf8(path).ok()?, body: bytes.get(body..end)?, end })
    }

    /// The number after this name in the body.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let start = find(self.body, name.as_bytes())? + name.len();
        Some(digits(&self.body[start..]))
    }
}

fn digits(text: &[u8]) -> u64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}
