//! Whether a document of YAML that a stranger wrote is more than it looks: an alias is two letters and stands for
//! anything, so that a few kilobytes become gigabytes. A reader's own limit counts aliases, not what they stand for.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};

/// Values and letters for each letter that is written: a key without a value is two letters and four of these.
const EACH: usize = 4;

/// Whether the document, written out, is about as large as its text, which has so many bytes. Nothing is kept of it
/// to find out. False too if it cannot be read.
pub fn are_few<'de, D: Deserializer<'de>>(document: D, length: usize) -> bool {
    let mut left = EACH * (length + 1);
    Count(&mut left).deserialize(document).is_ok()
}

struct Count<'a>(&'a mut usize);

impl Count<'_> {
    fn take<E: Error>(&mut self, count: usize) -> Result<(), E> {
        *self.0 =
            self.0.checked_sub(count).ok_or_else(|| E::custom("aliases make it larger than it looks"))?;
        Ok(())
    }

    fn again(&mut self) -> Count<'_> {
        Count(self.0)
    }
}

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("any value")
    }

    fn visit_bool<E: Error>(mut self, _: bool) -> Result<(), E> {
        self.take(1)
    }

    fn visit_i64<E: Error>(mut self, _: i64) -> Result<(), E> {
        self.take(1)
    }

    fn visit_u64<E: Error>(mut self, _: u64) -> Result<(), E> {
        self.take(1)
    }

    fn visit_f64<E: Error>(mut self, _: f64) -> Result<(), E> {
        self.take(1)
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        self.take(1 + text.len())
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.take(1)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        self.take(1)?;
        while list.next_element_seed(self.again())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.take(1)?;
        while map.next_key_seed(self.again())?.is_some() {
            map.next_value_seed(self.again())?;
        }
        Ok(())
    }

    /// A value with a tag.
    fn visit_enum<A: EnumAccess<'de>>(mut self, tagged: A) -> Result<(), A::Error> {
        let ((), value) = tagged.variant_seed(self.again())?;
        value.newtype_variant_seed(self.again())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_yaml_ng::Deserializer;

    use super::*;

    fn few(text: &str) -> bool {
        are_few(Deserializer::from_str(text), text.len())
    }

    #[test]
    fn what_people_write_is_as_large_as_it_looks() {
        let aliased = "base: &base {image: a, size: 1}\none: *base\ntwo: *base\n";
        for text in [
            "{}",
            "[]",
            "a:",
            "a:\nb:\nc:\n",
            "[~,~,~]",
            "''",
            "- !tag x\n- 1.5\n- true\n- -1\n",
            aliased,
            include_str!("../../config/classes/k8s.yaml"),
        ] {
            assert!(few(text), "{text}");
        }
    }

    /// The second has no more aliases than a reader allows, and was 800 MiB when read.
    #[test]
    fn a_bomb_is_found_without_going_off() {
        let doubled = (1..40).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1));
        let doubling = format!("a0: &a0 [x]\n{}", doubled.collect::<String>());
        let quadratic = format!("a: &a [{}]\nb: [{}]\n", "1,".repeat(8000), "*a,".repeat(6000));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(30_000), "*a,".repeat(6000));
        let keys = format!("a: &a {}\nb: {{{}}}\n", "x".repeat(30_000), "? *a : 1, ".repeat(600));
        let begun = Instant::now();
        for (name, bomb) in [("doubling", doubling), ("quadratic", quadratic), ("long", long), ("keys", keys)]
        {
            assert!(!few(&bomb), "{name}");
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}
