//! What a page shows against what was printed.

/// What a block of a page is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// Every line that was printed, but for noise.
    All(String),
    /// Lines of it, in this order.
    Among(String),
}

/// None: nothing differs but what is another on each machine. How many blanks separate the columns of a table
/// depends on that, too; those at the beginning of a line count.
pub fn difference(shown: &Shown, printed: &str) -> Option<String> {
    let printed: Vec<String> = printed.lines().filter(|line| !is_noise(line)).map(columns).collect();
    let (Shown::All(text) | Shown::Among(text)) = shown;
    let wanted: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(columns).collect();
    let told =
        |line: &str| Some(format!("the page shows {line:?}, and what is printed is\n{}", printed.join("\n")));
    let mut rest = printed.iter();
    for line in &wanted {
        let fits = match shown {
            Shown::All(_) => rest.next().is_some_and(|found| matches(line, found)),
            Shown::Among(_) => rest.any(|found| matches(line, found)),
        };
        if !fits {
            return told(line);
        }
    }
    match (shown, rest.next()) {
        (Shown::All(_), Some(_)) => told("no more"),
        _ => None,
    }
}

/// kubectl's own log lines, what it says while it waits, and empty lines.
fn is_noise(line: &str) -> bool {
    let mut start = line.chars();
    let is_log = start.next().is_some_and(|first| "IWEF".contains(first))
        && start.by_ref().take(4).filter(char::is_ascii_digit).count() == 4
        && start.next() == Some(' ');
    is_log || line.starts_with("Waiting for ") || line.trim().is_empty()
}

fn columns(line: &str) -> String {
    let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
    let words: Vec<&str> = rest.split_whitespace().collect();
    format!("{indent}{}", words.join(" "))
}

/// `<…>` stands for any text, but not for none.
fn matches(shown: &str, printed: &str) -> bool {
    let Some((before, rest)) = shown.split_once('<') else { return shown == printed };
    let Some((_, after)) = rest.split_once('>') else { return shown == printed };
    let Some(found) = printed.strip_prefix(before) else { return false };
    let ends = found.char_indices().skip(1).map(|(end, _)| end).chain([found.len()]);
    ends.filter(|end| *end > 0).any(|end| matches(after, &found[end..]))
}

#[cfg(test)]
mod tests {
    use super::{Shown, difference};

    #[test]
    fn what_stands_in_angle_brackets_is_another_on_each_machine() {
        let cases = [
            (
                "NAME   READY   AGE\nk8s    True    <23s>",
                "NAME                READY   AGE\nk8s                 True    4m12s",
                true,
            ),
            ("k8s True <23s>", "k8s False 4m", false),
            ("k8s True <23s>", "k8s True", false),
            ("server: <https://target:6443>", "server: https://198.18.0.1:6443", true),
            ("url: http://a%2Fb:<token>@c.svc", "url: http://a%2Fb:eyJ.x@d@c.svc", true),
            ("url: http://a%2Fb:<token>@c.svc", "url: http://a%2Fb:eyJ.x@d.svc", false),
            ("ends <then>", "ends ", false),
            ("<令牌>。", "eyJ。", true),
            ("a < b", "a < b", true),
        ];
        for (shown, printed, same) in cases {
            let found = difference(&Shown::All(shown.to_owned()), printed);
            assert_eq!(found.is_none(), same, "{shown:?} and {printed:?}: {found:?}");
        }
    }

    #[test]
    fn nothing_may_be_missing_added_or_in_another_order_but_what_kubectl_says_meanwhile() {
        let cases = [
            ("a\nb", "a\nb\n", true),
            (
                "a\nb",
                "Waiting for deployment spec update to be observed...\na\n\nI1128 14:57:42.1 1 round.go:1] GET\nb",
                true,
            ),
            ("a\nb", "b\na", false),
            ("a\nb", "a", false),
            ("a", "a\nb", false),
            ("a", "In 2026\na", false),
            ("  a", "a", false),
        ];
        for (shown, printed, same) in cases {
            let found = difference(&Shown::All(shown.to_owned()), printed);
            assert_eq!(found.is_none(), same, "{shown:?} and {printed:?}: {found:?}");
        }
    }

    #[test]
    fn of_a_part_each_line_is_there_and_in_order() {
        for (shown, same) in [("a\nc", true), ("c\na", false), ("a\nd", false), ("", true)] {
            let found = difference(&Shown::Among(shown.to_owned()), "a\nb\nc\n");
            assert_eq!(found.is_none(), same, "{shown:?}: {found:?}");
        }
    }
}
