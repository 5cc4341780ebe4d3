//! What `docs/security.md` promises is kept by tests that exist.

use crate::folder;

#[test]
fn each_promise_of_the_security_page_names_a_test_that_is_there() {
    let page = std::fs::read_to_string(folder("docs/security.md")).unwrap();
    let promises = page.split("## What is promised").nth(1).unwrap();
    let rows: Vec<&str> = promises.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let mut named = 0;
    for row in &rows {
        let mut file = None;
        let quoted = row.split('`').skip(1).step_by(2);
        for word in quoted {
            if word.ends_with(".rs") {
                file = Some(
                    std::fs::read_to_string(folder(word)).unwrap_or_else(|_| panic!("there is no {word}")),
                );
            } else {
                let text = file.as_ref().unwrap_or_else(|| panic!("{word} stands before its file"));
                assert!(text.contains(&format!("fn {word}(")), "no test {word} in the file before it: {row}");
                named += 1;
            }
        }
        assert!(file.is_some(), "nothing keeps this promise: {row}");
    }
    assert!(rows.len() > 15 && named >= rows.len(), "{} rows, {named} tests", rows.len());
}
