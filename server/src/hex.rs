//! Hexadecimal text.

/// The bytes in lower-case hexadecimal.
pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads exactly `N` bytes.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? * 16 + low?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives() {
        let all: [u8; 256] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        assert_eq!(decode(&encode(&all)), Some(all));
        assert_eq!(decode::<2>("00F"), None);
        assert_eq!(decode::<2>("00fg"), None);
        assert_eq!(decode::<2>("00é"), None);
        assert_eq!(decode::<2>("00fF"), Some([0, 255]));
    }
}
