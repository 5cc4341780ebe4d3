//! How much a volume may hold.

use super::*;

#[test]
fn more_than_a_volume_holds_is_refused() {
    let text = "x".repeat(200 * 1024);
    let class = class("own", json!([{ "name": "it", "data": { "a": text, "b": text, "c": text } }]));
    let error = rendered("it", "", &inputs(vec![mounted(&class, "demo", "x", "https://a")])).unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.to_string().contains("more than the 480 KiB that a volume holds"), "{error}");
}

/// As many files as there may be, and as large ones.
#[test]
fn two_generations_of_what_is_allowed_fit_into_the_tmpfs_whatever_the_kernels_page_is() {
    let spread: Files = (0..MAX_PAGES).map(|number| (number.to_string(), "x".to_owned().into())).collect();
    let whole: Files = [("it".to_owned(), "x".repeat(MAX_PAGES * PAGE).into())].into();
    for files in [spread, whole] {
        check_size(&files).unwrap();
        for page in [4 << 10, 16 << 10, 64 << 10] {
            assert!(2 * pages(&files, page) < crate::mount::BLOCKS, "{} files, pages of {page}", files.len());
        }
    }
}
