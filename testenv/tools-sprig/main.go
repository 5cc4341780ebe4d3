// What Go and sprig make of templates: cases on standard input, JSON on standard output. The tests of
// api/src/template hold their own functions against it (api/tests/sprig).
//
// A line is a template, but for the first, which is the object that all of them are rendered over. Lines that
// begin with # are comments.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"regexp"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
)

type result struct {
	Template string  `json:"template"`
	Want     *string `json:"want,omitempty"`
	WantErr  string  `json:"want_err,omitempty"`
}

// Go has them in a table that it does not hand out. One that it does not know fails the check in main.
var builtins = []string{
	"and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or", "print",
	"printf", "println", "slice", "urlquery",
}

// A pointer in a message is another at each run.
var pointer = regexp.MustCompile(`0x[0-9a-f]{6,}`)

// A panic of a function is an error like any other.
func run(text string, data any) (want string, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("panic: %v", panicked)
		}
	}()
	parsed, err := template.New("").Funcs(sprig.HermeticTxtFuncMap()).Parse(text)
	if err != nil {
		return "", err
	}
	var output strings.Builder
	err = parsed.Execute(&output, data)
	return output.String(), err
}

// As Kubernetes reads objects: whole numbers are int64.
func numbers(value any) any {
	switch value := value.(type) {
	case json.Number:
		if whole, err := value.Int64(); err == nil {
			return whole
		}
		fraction, _ := value.Float64()
		return fraction
	case []any:
		for index := range value {
			value[index] = numbers(value[index])
		}
	case map[string]any:
		for key := range value {
			value[key] = numbers(value[key])
		}
	}
	return value
}

func parse(line string) (data any) {
	decoder := json.NewDecoder(strings.NewReader(line))
	decoder.UseNumber()
	if err := decoder.Decode(&data); err != nil {
		log.Fatalf("the first line is no JSON: %v", err)
	}
	return numbers(data)
}

func judge(text, object string) result {
	// Anew for each case: some functions change what they are given.
	want, err := run(text, parse(object))
	if err != nil {
		return result{Template: text, WantErr: pointer.ReplaceAllString(err.Error(), "0x…")}
	}
	return result{Template: text, Want: &want}
}

func main() {
	names := append([]string{}, builtins...)
	for _, name := range builtins {
		if _, err := template.New("").Parse("{{" + name + "}}"); err != nil {
			log.Fatal(err)
		}
	}
	for name := range sprig.HermeticTxtFuncMap() {
		if name != "slice" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	results, object := []result{}, ""
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		switch line := lines.Text(); {
		case line == "" || strings.HasPrefix(line, "#"):
		case object == "":
			object = line
		default:
			results = append(results, judge(line, object))
		}
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
	corpus := map[string]any{"names": names, "data": json.RawMessage(object), "cases": results}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(corpus); err != nil {
		log.Fatal(err)
	}
}
