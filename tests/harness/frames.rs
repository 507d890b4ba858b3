//! Counts the calls in what a client sends over HTTP/2, and those that it breaks off: every call
//! opens a stream with a frame of headers.

/// What every connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length of the head of a frame, in bytes.
const HEAD: usize = 9;

/// The type of the frames that open a stream. A client sends no trailers.
const HEADERS: u8 = 1;

/// The type of the frames that break a stream off.
const RST_STREAM: u8 = 3;

/// What there is in some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) calls: u64,
    pub(crate) resets: u64,
}

/// Reads one direction of one connection as it goes by.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The part of the preface or of a head that has come.
    pending: Vec<u8>,
    past_preface: bool,
    /// Bytes of the frame under way that are still to come.
    body: usize,
    foreign: bool,
}

impl Frames {
    /// Takes the next bytes and returns how many calls begin and are broken off in them.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        while !bytes.is_empty() && !self.foreign {
            let skipped = self.body.min(bytes.len());
            (self.body, bytes) = (self.body - skipped, &bytes[skipped..]);
            let wanted = if self.past_preface { HEAD } else { PREFACE.len() };
            let count = (wanted - self.pending.len()).min(bytes.len());
            self.pending.extend_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if self.pending.len() < wanted {
                continue;
            }
            if self.past_preface {
                seen.calls += u64::from(self.pending[3] == HEADERS);
                seen.resets += u64::from(self.pending[3] == RST_STREAM);
                let length = [0, self.pending[0], self.pending[1], self.pending[2]];
                self.body = u32::from_be_bytes(length) as usize;
            } else {
                self.foreign = self.pending != PREFACE;
                self.past_preface = true;
            }
            self.pending.clear();
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], body].concat()
    }

    #[test]
    fn calls_are_counted_however_the_bytes_come() {
        let settings = frame(4, &[]);
        let call = frame(HEADERS, &[1; 300]);
        let data = frame(0, &[HEADERS; 70_000]);
        let reset = frame(RST_STREAM, &[0; 4]);
        let all = [PREFACE, &settings, &call, &data, &reset, &call, &frame(8, &[0; 4])].concat();
        for step in [1, 2, 7, 9, 24, 1000, all.len()] {
            let mut frames = Frames::default();
            let seen: Vec<Seen> = all.chunks(step).map(|piece| frames.take(piece)).collect();
            assert_eq!(
                seen.iter().map(|seen| seen.calls).sum::<u64>(),
                2,
                "{step} bytes at a time"
            );
            assert_eq!(
                seen.iter().map(|seen| seen.resets).sum::<u64>(),
                1,
                "{step} bytes at a time"
            );
        }
    }

    #[test]
    fn what_is_not_http_2_has_no_calls() {
        assert_eq!(Frames::default().take(&frame(HEADERS, &[0; 100])), Seen::default());
    }
}
