//! Which of the words that are known somebody may have meant by one that is not.
//!
//! For messages to people: nothing is ever decided by it.

/// The words of `known` that are near to `word`, the nearest first: up to a third of its letters,
/// and at least one, have to be put in, taken out, replaced or swapped. Upper and lower case are
/// the same. Takes time in proportion to the product of the lengths, for each word.
pub fn near<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let word = letters(word);
    let limit = (word.len() / 3).max(1);
    let far = |known: &'a str| {
        let letters = letters(known);
        let too_long = letters.len().abs_diff(word.len()) > limit;
        let far = if too_long { usize::MAX } else { distance(&word, &letters) };
        // Nothing of a short word would be left.
        (far <= limit && far < word.len()).then_some((far, known))
    };
    let mut found: Vec<(usize, &str)> = known.into_iter().filter_map(far).collect();
    found.sort_by_key(|(far, _)| *far);
    found.into_iter().map(|(_, known)| known).collect()
}

fn letters(word: &str) -> Vec<char> {
    word.chars().flat_map(char::to_lowercase).collect()
}

/// How many letters have to be put in, taken out, replaced or swapped with their neighbour.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut above: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, &of_a) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, &of_b) in b.iter().enumerate() {
            let replaced = row[j] + usize::from(of_a != of_b);
            let mut best = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && of_a == b[j - 1] && a[i - 1] == of_b {
                best = best.min(above[j - 1] + 1);
            }
            next.push(best);
        }
        above = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_has_to_be_changed() {
        let distance = |a, b| distance(&letters(a), &letters(b));
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("today", "today", 0),
            ("tody", "today", 1),
            ("toaday", "today", 1),
            ("tobay", "today", 1),
            ("toady", "today", 1),
            ("kitten", "sitting", 3),
            ("TODAY", "today", 0),
            ("größe", "grösse", 2),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn the_nearest_comes_first_and_what_is_far_not_at_all() {
        let known = ["cluster", "nodes", "user", "color", "colors"];
        assert_eq!(near("colour", known), ["color", "colors"]);
        assert_eq!(near("Node", known), ["nodes"]);
        assert!(near("password", known).is_empty());
        assert!(near("x", ["a", "b", "ab"]).is_empty(), "a single letter resembles nothing else");
        assert_eq!(near("A", ["a", "b"]), ["a"]);
        assert!(near("", known).is_empty());
    }
}
