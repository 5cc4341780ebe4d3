//! Templates through the public API: what is refused at load, what at rendering, and that nothing runs away.

use serde_json::json;

use super::*;

fn render(text: &str) -> Result<String, TemplateError> {
    let data = json!({
        "s": "str", "i": 3, "nil": null, "l": ["a", "b"], "m": {"k": "v"},
        "connector": {"spec": {"address": "https://kube.example.com:6443/prefix"}},
        "secret": "S3CRET",
    });
    Template::parse(text)?.render(&data)
}

fn message(text: &str) -> String {
    render(text).expect_err(text).to_string()
}

#[test]
fn mistakes_are_found_when_the_class_is_loaded() {
    for (text, words) in [
        ("{{ end }}", "unexpected {{end}}"),
        ("a{{ end }}b{{ .s }}", "unexpected {{end}}"),
        ("{{ else }}", "unexpected {{end}} or {{else}}"),
        ("{{ if .s }}", "a block without {{end}}"),
        ("{{ range .l }}{{ if . }}{{ end }}", "a block without {{end}}"),
        ("{{ define \"x\" }}", "a block without {{end}}"),
        ("{{ .s", "template does not parse"),
        ("{{ nope .s }}", "line 1: function \"nope\" is not defined"),
        ("\n{{ if false }}{{ now }}{{ end }}", "line 2: function \"now\" is not defined"),
        ("{{ env \"HOME\" }}", "function \"env\" is not defined"),
        ("{{ (nope).x }}", "function \"nope\" is not defined"),
        ("{{ $x }}", "template does not parse"),
        ("{{ $x = 1 }}", "undefined variable \"$x\""),
        ("{{ if .s }}{{ $x := 1 }}{{ end }}{{ $x }}", "undefined variable \"$x\""),
        ("{{ template \"x\" }}", "template \"x\" is not defined"),
        ("{{ break }}", "break or continue outside of a range"),
        (
            "{{ define \"x\" }}{{ template \"x\" }}{{ end }}{{ template \"x\" }}",
            "template \"x\" calls itself",
        ),
        ("{{ define \"x\" }}1{{ end }}{{ define \"x\" }}2{{ end }}", "template \"x\" is defined twice"),
        ("{{ fail .secret }}", "\"fail\" takes one text in quotes"),
        ("{{ .secret | fail }}", "\"fail\" takes one text in quotes"),
    ] {
        let error = Template::parse(text).expect_err(text).to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn a_missing_value_is_an_error_that_names_its_place() {
    for (text, words) in [
        ("a\n{{ .m.nope }}", "line 2: .m.nope has no value"),
        ("{{- .nope.deeper -}}", "line 1: .nope.deeper has no value"),
        ("{{ .nil }}", ".nil has no value"),
        ("{{ index .m \"nope\" }}", "index .m \"nope\" has no value"),
        ("{{ printf \"%s\" .nope }}", "printf: argument 2 has no value"),
        ("{{ .nope | urlquery }}", "urlquery: argument 1 has no value"),
        ("{{ .nope | b64enc }}", "b64enc: argument 1 must be a string, not <nil>"),
        ("{{ printf \"%d\" .s }}", "the arguments do not fit the format"),
        ("{{ printf \"%s %s\" .s }}", "the arguments do not fit"),
        ("{{ printf \"%s\" .s .s }}", "the arguments do not fit"),
    ] {
        let error = message(text);
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn what_looks_like_a_complaint_of_go_but_is_a_value_passes() {
    let data = json!({"password": "a%!s(<nil>)b", "text": "<no value>"});
    let template =
        Template::parse("{{ .password }} {{ printf \"%s\" .password }} {{ .text }} 100%!").expect("valid");
    assert_eq!(template.render(&data), Ok("a%!s(<nil>)b a%!s(<nil>)b <no value> 100%!".into()));
}

#[test]
fn errors_never_quote_a_value() {
    for text in [
        "{{ len .secret.x }}",
        "{{ .secret.x }}",
        "{{ index .secret \"x\" }}",
        "{{ range .secret }}{{ end }}",
        "{{ printf .secret .secret }}",
        "{{ printf \"%d\" .secret }}",
        "{{ fromJson .secret }}",
        "{{ b64dec (printf \"%%%s\" .secret) }}",
        "{{ urlParse (printf \"\\x01%s\" .secret) }}",
        "{{ .secret.x.y }}",
        "{{ urlJoin (dict \"userinfo\" (printf \" %s\" .secret)) }}",
        "{{ regexMatch (printf \"(%s\" .secret) \"x\" }}",
        "{{ index .l (atoi .secret) 1 }}",
        "{{ eq .secret 1 }}",
        "{{ len (atoi .secret) }}",
    ] {
        let error = render(text).map(|_| String::new()).unwrap_or_else(|error| error.to_string());
        assert!(!error.is_empty() && !error.contains("S3CRET"), "{text}: {error}");
    }
}

#[test]
fn functions_that_change_a_map_change_the_variable() {
    for (text, expected) in [
        ("{{ $d := dict }}{{ $_ := set $d \"k\" \"v\" }}{{ $d.k }}", "v"),
        ("{{ $d := dict \"a\" 1 }}{{ set $d \"b\" 2 }}{{ $d }}", "map[a:1 b:2]map[a:1 b:2]"),
        ("{{ $d := dict \"a\" 1 \"b\" 2 }}{{ $_ := unset $d \"a\" }}{{ $d }}", "map[b:2]"),
        ("{{ $d := dict \"a\" 1 }}{{ $d = set $d \"a\" 2 }}{{ $d.a }}", "2"),
        (
            "{{ $d := dict \"a\" 1 }}{{ $_ := mergeOverwrite $d (dict \"a\" 2 \"b\" 3) }}{{ $d }}",
            "map[a:2 b:3]",
        ),
        ("{{ $d := dict }}{{ range .l }}{{ $_ := set $d . \"x\" }}{{ end }}{{ $d }}", "map[a:x b:x]"),
    ] {
        assert_eq!(render(text), Ok(expected.into()), "{text}");
    }
}

#[test]
fn functions_beyond_the_corpus_do_as_sprig() {
    for (text, expected) in [
        ("{{ default \"d\" .nope }}{{ default \"d\" .s }}{{ .nope | default \"e\" }}", "dstre"),
        (
            "{{ lower \"ABC\" }}{{ contains \"b\" \"abc\" }}{{ hasPrefix \"a\" \"abc\" }}{{ hasSuffix \"b\" \"abc\" }}",
            "abctruetruefalse",
        ),
        ("{{ replace \"a\" \"bb\" \"aXa\" }}{{ repeat 3 \"x\" }}{{ nospace \" a b \" }}", "bbXbbxxxab"),
        (
            "{{ trunc 2 \"abc\" }}{{ trunc -2 \"abc\" }}{{ trunc 9 \"abc\" }}{{ substr 1 2 \"abc\" }}{{ substr -1 2 \"abc\" }}",
            "abbcabcbab",
        ),
        (
            "{{ (split \"/\" \"a/b\")._1 }}{{ (splitn \"/\" 2 \"a/b/c\")._1 }}{{ plural \"one\" \"many\" 2 }}",
            "bb/cmany",
        ),
        (
            "{{ add 1 2 3 }}{{ sub 5 2 }}{{ mul 2 3 }}{{ div 7 2 }}{{ mod 7 2 }}{{ max 1 3 2 }}{{ min 1 3 2 }}{{ add1 1 }}",
            "63631312",
        ),
        ("{{ int \"42\" }}{{ int 3.9 }}{{ atoi \"x\" }}{{ float64 \"1.5\" }}{{ toString 1 }}", "42301.51"),
        ("{{ until 3 }}{{ untilStep 5 0 -2 }}{{ until 0 }}", "[0 1 2][5 3 1][]"),
        ("{{ toJson (dict \"a\" (list 1 1.5 nil true \"<\")) }}", r#"{"a":[1,1.5,null,true,"\u003c"]}"#),
        ("{{ (fromJson \"{\\\"a\\\":{\\\"b\\\":[1,2]}}\").a.b }}", "[1 2]"),
        ("{{ sha256sum \"abc\" | trunc 8 }}{{ b32dec (b32enc \"hello\") }}", "ba7816bfhello"),
        (
            "{{ hasKey .m \"k\" }}{{ get .m \"x\" }}{{ keys .m }}{{ dig \"m\" \"k\" \"d\" . }}{{ dig \"m\" \"x\" \"d\" . }}",
            "true[k]vd",
        ),
        (
            "{{ kindOf .l }}{{ typeOf .i }}{{ kindIs \"map\" .m }}{{ deepEqual .l (list \"a\" \"b\") }}",
            "sliceint64truetrue",
        ),
        (
            "{{ sortAlpha (list \"b\" \"a\") }}{{ join \"-\" (list 1 nil 2) }}{{ any .nope .s }}{{ all .nope .s }}",
            "[a b]1-2truefalse",
        ),
        (
            "{{ regexFindAll \"[a-z]\" \"a1b2c\" 2 }}{{ regexReplaceAllLiteral \"a\" \"aba\" \"$1\" }}{{ regexQuoteMeta \"a.b\" }}",
            "[a b]$1b$1a\\.b",
        ),
        (
            "{{ urlJoin (urlParse \"https://u:p@h:1/a%20b?q=1#f\") }}{{ (urlParse \"mailto:x@y\").opaque }}",
            "https://u:p@h:1/a%20b?q=1#fx@y",
        ),
        ("{{ (urlParse .connector.spec.address).path }}/livez", "/prefix/livez"),
        (
            "{{ (urlParse \"https://[::1]:6443/x\").hostname }}{{ (urlParse \"/only/path\").path }}",
            "::1/only/path",
        ),
        ("{{ html \"<a>\" }}{{ js \"'\" }}{{ urlquery \"a b\" }}", "&lt;a&gt;\\'a+b"),
        (
            "{{ block \"x\" .m }}{{ .k }}{{ end }}{{ define \"y\" }}[{{ . }}]{{ end }}{{ template \"y\" .s }}",
            "v[str]",
        ),
    ] {
        assert_eq!(render(text).map_err(|error| error.to_string()), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn no_template_runs_away() {
    let doubling = format!("{{{{ $x := \"0123456789\" }}}}{}", "{{ $x = printf \"%s%s\" $x $x }}".repeat(40));
    let nesting = format!("{{{{ $x := list 1 }}}}{}{{{{ $x }}}}", "{{ $x = list $x $x }}".repeat(40));
    let fan_out: String = (1..40)
        .map(|n| {
            format!(
                "{{{{define \"t{n}\"}}}}{{{{template \"t{0}\"}}}}{{{{template \"t{0}\"}}}}{{{{end}}}}",
                n - 1
            )
        })
        .chain(["{{define \"t0\"}}{{end}}{{template \"t39\"}}".into()])
        .collect();
    let chain = format!("{{{{if .a}}}}{}{{{{end}}}}", "{{else if .a}}".repeat(50_000));
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(50_000), ")".repeat(50_000));
    let blocks = format!("{}{}", "{{if .s}}".repeat(20_000), "{{end}}".repeat(20_000));
    let loops = "{{ range until 9999 }}{{ range until 9999 }}{{ end }}{{ end }}";
    for text in [
        doubling.as_str(),
        &nesting,
        &fan_out,
        &chain,
        &deep,
        &blocks,
        loops,
        "{{ until 1000000000 }}",
        "{{ range 1000000000 }}x{{ end }}",
        "{{ repeat 1000000000 \"x\" }}",
        "{{ indent 1000000000 \"x\" }}",
        "{{ printf \"%1000000000d\" 1 }}",
        "{{ printf \"%*d\" 1000000000 1 }}",
        "{{ $x := repeat 1000 \"a\" }}{{ replace \"\" (repeat 100000 \"b\") $x }}",
        "{{ $x := list }}{{ range until 5000 }}{{ $x = list $x }}{{ end }}",
        "{{ $x := until 9999 }}{{ range until 90 }}{{ $x = list $x }}{{ end }}{{ toPrettyJson $x }}",
        "{{ regexMatch (repeat 100000 \"\\\\w\") \"x\" }}",
        "{{ $x := until 9999 }}{{ $x = concat $x $x $x $x $x $x $x $x $x }}{{ without $x 1 2 3 4 5 6 7 8 9 10 11 12 }}",
        "{{ $x := list }}{{ range until 3000 }}{{ $x = append $x (list .) }}{{ end }}{{ uniq $x }}",
    ] {
        assert!(render(text).is_err(), "{}", &text[..text.len().min(80)]);
    }
    // Each with each would be seven thousand million comparisons.
    let many = json!({"s": (0..120_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",")});
    let template = Template::parse("{{ splitList \",\" .s | uniq | len }}").expect("valid");
    assert_eq!(template.render(&many), Ok("120000".into()));
    let large = "{{ $x := repeat 1000 \"0123456789\" }}{{ range until 1000 }}{{ $x }}{{ end }}";
    assert_eq!(render(large), Err(TemplateError::TooMuchOutput));
    assert_eq!(render(&" ".repeat(MAX_TEXT + 1)), Err(TemplateError::TooLong));
}
