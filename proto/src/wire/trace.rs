//! Where the spans of a request belong, in the terms of W3C's Trace Context. It follows from the
//! request's name, so that client and nodes need to tell each other nothing else.

use crate::digest::Md5Digest;

/// The trace of all requests of this name.
pub fn trace_id(request: &str) -> [u8; 16] {
    *Md5Digest::of(request.as_bytes()).bytes()
}

/// The span of the operation that its client has named so: the parent of the nodes' spans.
pub fn root_span(request: &str) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = trace_id(&format!("{request} root"));
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_a_trace_and_a_root_of_its_own() {
        assert_eq!(trace_id("a"), trace_id("a"));
        assert_ne!(trace_id("a"), trace_id("b"));
        assert_ne!(root_span("a"), root_span("b"));
        assert_ne!(root_span("a")[..], trace_id("a")[..8]);
    }
}
