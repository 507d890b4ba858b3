//! A random factor for pauses, so that four nodes do not move in step.

/// Between 0.75 and 1.25.
pub(crate) fn jitter() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    0.75 + f64::from(random) / f64::from(u32::MAX) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_small() {
        assert!((0..1000).map(|_| jitter()).all(|j| (0.75..=1.25).contains(&j)));
    }
}
