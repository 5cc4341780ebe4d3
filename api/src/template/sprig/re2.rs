//! Patterns of RE2 for the engine here, which reads some of their signs in another way and knows more of
//! them. `\d`, `\s`, `\w` and `\b` are ASCII's; within brackets `[`, `&` and `~` stand for themselves, and so
//! does a `{` that counts nothing.

/// How often RE2 lets something be repeated.
const MAX_COUNT: u32 = 1000;

/// Nothing for what RE2 refuses and the engine would take.
pub fn translated(pattern: &str) -> Option<String> {
    let mut reader = Reader { rest: pattern, output: String::new() };
    let mut repeated = false;
    while let Some(c) = reader.next() {
        let repeats = match c {
            '\\' => reader.escape(false).map(|()| false)?,
            '[' => reader.brackets().map(|()| false)?,
            '(' => reader.group().map(|()| false)?,
            '{' => reader.count()?,
            '*' | '+' | '?' => reader.operator(c),
            _ => reader.copied(c),
        };
        if repeats && repeated {
            return None;
        }
        repeated = repeats;
    }
    Some(reader.output)
}

struct Reader<'a> {
    rest: &'a str,
    output: String,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    fn copied(&mut self, c: char) -> bool {
        self.output.push(c);
        false
    }

    /// Copies up to a sign and it.
    fn copy_to(&mut self, last: char) {
        let (copied, rest) = self.rest.split_once(last).unwrap_or((self.rest, ""));
        self.output.push_str(copied);
        self.output.push(last);
        self.rest = rest;
    }

    fn operator(&mut self, c: char) -> bool {
        self.output.push(c);
        if let Some(rest) = self.rest.strip_prefix('?') {
            self.output.push('?');
            self.rest = rest;
        }
        true
    }

    /// Whether it is a count, such as `{2}`, `{2,}` or `{2,3}`.
    fn count(&mut self) -> Option<bool> {
        let body = self.rest.split_once('}').map_or("", |(body, _)| body);
        let (least, most) = body.split_once(',').unwrap_or((body, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if least.is_empty() || !digits(least) || !digits(most) {
            self.output.push_str("\\{");
            return Some(false);
        }
        let few = |text: &str| text.is_empty() || text.parse().is_ok_and(|count: u32| count <= MAX_COUNT);
        if !few(least) || !few(most) {
            return None;
        }
        self.output.push('{');
        self.output.push_str(body);
        self.rest = &self.rest[body.len() + 1..];
        Some(self.operator('}'))
    }

    /// What an opening parenthesis begins; RE2 has four flags.
    fn group(&mut self) -> Option<()> {
        self.output.push('(');
        let Some(rest) = self.rest.strip_prefix('?') else { return Some(()) };
        self.output.push('?');
        self.rest = rest;
        let flags = rest.split([':', ')']).next().unwrap_or_default();
        let named = ["P<", "<"].iter().any(|name| rest.starts_with(name));
        (named || flags.chars().all(|flag| "imsU-".contains(flag))).then_some(())
    }

    fn brackets(&mut self) -> Option<()> {
        self.output.push('[');
        if self.rest.starts_with('^') {
            self.next();
            self.output.push('^');
        }
        // At the beginning it closes nothing.
        if self.rest.starts_with(']') {
            self.next();
            self.output.push_str("\\]");
        }
        while let Some(c) = self.next() {
            match c {
                '\\' => self.escape(true)?,
                '[' if self.rest.starts_with(':') => {
                    self.output.push('[');
                    self.copy_to(']');
                }
                // A difference of sets there; of RE2's ranges few begin or end with it.
                '-' if self.rest.starts_with('-') => return None,
                '[' | '&' | '~' => self.output.extend(['\\', c]),
                _ => self.output.push(c),
            }
            if c == ']' {
                break;
            }
        }
        Some(())
    }

    fn escape(&mut self, within: bool) -> Option<()> {
        let escaped = self.next()?;
        let class = match escaped {
            'd' => "[0-9]",
            'D' => "[^0-9]",
            's' => "[\\t\\n\\f\\r ]",
            'S' => "[^\\t\\n\\f\\r ]",
            'w' => "[0-9A-Za-z_]",
            'W' => "[^0-9A-Za-z_]",
            'b' if !within => "(?-u:\\b)",
            '<' => "<",
            '>' => ">",
            'Q' if !within => return self.quoted(),
            _ => return self.sign(escaped, within),
        };
        self.output.push_str(class);
        Some(())
    }

    fn sign(&mut self, escaped: char, within: bool) -> Option<()> {
        let known = match escaped {
            'A' | 'B' | 'z' => !within,
            'a' | 'f' | 'n' | 'r' | 't' | 'v' | 'x' | 'p' | 'P' => true,
            _ => escaped.is_ascii() && !escaped.is_ascii_alphanumeric(),
        };
        self.output.extend(['\\', escaped]);
        if "xpP".contains(escaped) && self.rest.starts_with('{') {
            self.copy_to('}');
        }
        known.then_some(())
    }

    /// Everything to `\E` stands for itself.
    fn quoted(&mut self) -> Option<()> {
        let (quoted, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
        self.output.push_str(&regex::escape(quoted));
        self.rest = rest;
        Some(())
    }
}
