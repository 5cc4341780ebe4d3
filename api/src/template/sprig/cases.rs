//! `camelcase`, `snakecase`, `kebabcase`: where words begin in names that others have made.

use super::letters;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Number,
    Upper,
    Letters,
    Connector,
    Punctuation,
    Other,
}

fn is_connector(c: char) -> bool {
    c == '-' || c == '_' || c.is_whitespace()
}

fn is_letter(c: char) -> bool {
    c.is_alphabetic()
}

/// ASCII's, which Go calls punctuation and not symbols.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() && !"$+<=>^`|~".contains(c)
}

/// Letters that are two in one, the first of them a capital, stay.
fn small(c: char) -> char {
    if c.is_uppercase() { letters::lower(c) } else { c }
}

/// `http_server` is `HttpServer`; connectors at the beginning stay.
pub fn pascal(source: &str) -> String {
    let mut output = String::new();
    let body = source.trim_start_matches(is_connector);
    let leading = &source[..source.len() - body.len()];
    output.push_str(leading);
    let mut chars = body.chars();
    let Some(first) = chars.next() else {
        // The last one twice, as there.
        output.extend(leading.chars().last());
        return output;
    };
    // A word that began in upper case goes on in lower case until it does so by itself.
    let (mut shouting, mut before) = (first.is_uppercase(), letters::upper(first));
    for c in chars {
        let mut now = c;
        match (is_connector(c), is_connector(before)) {
            (true, true) => output.push(before),
            (false, true) => {
                shouting = c.is_uppercase();
                now = letters::upper(c);
            }
            (_, false) => {
                if shouting && c.is_uppercase() {
                    now = letters::lower(c);
                } else if shouting {
                    shouting = false;
                }
                output.push(before);
            }
        }
        before = now;
    }
    output.push(before);
    output
}

/// The next word of a name, and what is left.
fn word(source: &str) -> (Kind, &str, &str) {
    let Some(first) = source.chars().next() else { return (Kind::None, "", "") };
    let split = |kind, belongs: &dyn Fn(char) -> bool| {
        let end = source
            .char_indices()
            .skip(1)
            .find(|(_, c)| !belongs(*c))
            .map_or(source.len(), |(index, _)| index);
        (kind, &source[..end], &source[end..])
    };
    match first {
        c if is_connector(c) => split(Kind::Connector, &is_connector),
        c if is_punctuation(c) => split(Kind::Punctuation, &is_punctuation),
        c if c.is_uppercase() => upper(source),
        c if is_letter(c) => split(Kind::Letters, &|c| is_letter(c) && !c.is_uppercase()),
        c if c.is_numeric() => split(Kind::Number, &|c: char| c.is_numeric()),
        _ => split(Kind::Other, &|c| {
            !is_connector(c) && !is_letter(c) && !c.is_numeric() && !is_punctuation(c)
        }),
    }
}

/// `HTTPStatus` is `HTTP` and `Status`.
fn upper(source: &str) -> (Kind, &str, &str) {
    let uppers = source.chars().take_while(|c| c.is_uppercase()).count();
    let place = |count: usize| source.char_indices().nth(count).map_or(source.len(), |(index, _)| index);
    let after = source.chars().nth(uppers);
    let end = match (uppers, after) {
        (1, Some(c)) if is_letter(c) => {
            let rest = source.chars().skip(1).take_while(|c| is_letter(*c) && !c.is_uppercase()).count();
            place(1 + rest)
        }
        (2.., Some(c)) if is_letter(c) => place(uppers - 1),
        _ => place(uppers),
    };
    (Kind::Upper, &source[..end], &source[end..])
}

struct Joined {
    output: String,
    connector: char,
}

impl Joined {
    fn put(&mut self, kind: Kind, word: &str) {
        match kind {
            Kind::Connector => self.output.extend(word.chars().map(|_| self.connector)),
            Kind::Upper | Kind::Letters => self.output.extend(word.chars().map(small)),
            _ => self.output.push_str(word),
        }
    }

    fn connect(&mut self) {
        self.output.push(self.connector);
    }
}

fn goes_on(kind: Kind) -> bool {
    matches!(kind, Kind::Letters | Kind::Number)
}

fn stands_apart(kind: Kind) -> bool {
    !matches!(kind, Kind::None | Kind::Connector | Kind::Punctuation)
}

/// `HTTPServer2` is `http_server2`.
pub fn joined(source: &str, connector: char) -> String {
    let mut joined = Joined { output: String::with_capacity(source.len() + 8), connector };
    let (mut kind, mut text, mut rest) = word(source);
    while !rest.is_empty() {
        if kind != Kind::Connector {
            joined.put(kind, text);
        }
        let (before, last) = (kind, text);
        (kind, text, rest) = word(rest);
        match before {
            Kind::Connector => joined.put(before, last),
            Kind::Punctuation => {}
            Kind::Number => {
                while goes_on(kind) {
                    joined.put(kind, text);
                    (kind, text, rest) = word(rest);
                }
                if stands_apart(kind) {
                    joined.connect();
                }
            }
            _ if kind != Kind::Number => {
                if !matches!(kind, Kind::Connector | Kind::Punctuation) {
                    joined.connect();
                }
            }
            _ if rest.is_empty() => {}
            _ => (kind, text, rest) = number(&mut joined, text, rest),
        }
    }
    joined.put(kind, text);
    joined.output
}

/// A number belongs to the word before it, unless lower case letters follow: `Bld4Floor` is `bld4_floor`,
/// and `HTTP2xx` is `http_2xx`.
fn number<'a>(joined: &mut Joined, digits: &str, rest: &'a str) -> (Kind, &'a str, &'a str) {
    let (mut kind, mut text, mut rest) = word(rest);
    if kind != Kind::Letters {
        joined.put(Kind::Number, digits);
        if !matches!(kind, Kind::Connector | Kind::Punctuation) {
            joined.connect();
        }
        return (kind, text, rest);
    }
    joined.connect();
    joined.put(Kind::Number, digits);
    while goes_on(kind) {
        joined.put(kind, text);
        (kind, text, rest) = word(rest);
    }
    if stands_apart(kind) {
        joined.connect();
    }
    (kind, text, rest)
}
