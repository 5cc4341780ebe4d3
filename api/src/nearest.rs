//! The known name that somebody has probably meant who wrote an unknown one.

/// Edits between a name and what was meant by it, at most: `conector` is `connector`, another word is not.
pub const TYPO: usize = 2;

/// With the number of edits between both; of several that are as near the first. None where no name is known.
pub fn nearest<T: AsRef<str>>(written: &str, known: impl IntoIterator<Item = T>) -> Option<(usize, T)> {
    let lower = written.to_ascii_lowercase();
    let distances = known.into_iter().map(|name| (strsim::damerau_levenshtein(&lower, name.as_ref()), name));
    distances.min_by_key(|(edits, _)| *edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_those_that_are_nearest_is_meant() {
        for (written, edits, name) in
            [("conector", 1, "connector"), ("TOKEN", 0, "token"), ("tokne", 1, "token"), ("tone", 1, "tones")]
        {
            let known = ["connector", "token", "tones", "tune"];
            assert_eq!(nearest(written, known), Some((edits, name)), "{written}");
        }
        assert_eq!(nearest::<&str>("token", []), None);
    }
}
