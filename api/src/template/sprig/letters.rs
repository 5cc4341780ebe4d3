//! Cases of letters as Go's `unicode` has them: always one letter for one. Rust's own mappings make `SS` of
//! `ß`, and look at what stands beside a sigma.

pub fn upper(c: char) -> char {
    let mut mapped = c.to_uppercase();
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => with_iota(c),
    }
}

/// The dotted capital I is the one whose small form is longer.
pub fn lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

/// The form for the beginning of a word. Letters that are two in one have their own, Georgian has none.
pub fn title(c: char) -> char {
    match c {
        'Ǆ'..='ǆ' => 'ǅ',
        'Ǉ'..='ǉ' => 'ǈ',
        'Ǌ'..='ǌ' => 'ǋ',
        'Ǳ'..='ǳ' => 'ǲ',
        'ა'..='ჺ' | 'ჽ'..='ჿ' => c,
        _ => upper(c),
    }
}

/// Neither small nor capital.
pub fn is_title(c: char) -> bool {
    matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ' | 'ᾈ'..='ᾏ' | 'ᾘ'..='ᾟ' | 'ᾨ'..='ᾯ' | 'ᾼ' | 'ῌ' | 'ῼ')
}

/// Greek with an iota below is capital with the iota beside it, which Unicode also has as one character.
fn with_iota(c: char) -> char {
    let distance = match c {
        'ᾀ'..='ᾇ' | 'ᾐ'..='ᾗ' | 'ᾠ'..='ᾧ' => 8,
        'ᾳ' | 'ῃ' | 'ῳ' => 9,
        _ => 0,
    };
    char::from_u32(u32::from(c) + distance).unwrap_or(c)
}
