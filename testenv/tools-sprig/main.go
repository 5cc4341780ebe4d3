// What Go and sprig make of templates: one a line on standard input, JSON on standard output. The tests of
// api/src/template hold their own functions against it (api/tests/sprig.rs).
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
)

type result struct {
	Template string  `json:"template"`
	Want     *string `json:"want,omitempty"`
	// That there is one counts, not its words.
	Fails bool `json:"fails,omitempty"`
}

// A panic of a function is an error like any other.
func run(text string) (want string, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("%v", panicked)
		}
	}()
	parsed, err := template.New("").Funcs(sprig.HermeticTxtFuncMap()).Parse(text)
	if err != nil {
		return "", err
	}
	var output strings.Builder
	err = parsed.Execute(&output, map[string]any{"text": "abc", "none": nil, "number": int64(3)})
	return output.String(), err
}

func main() {
	names := []string{}
	for name := range sprig.HermeticTxtFuncMap() {
		names = append(names, name)
	}
	sort.Strings(names)
	results := []result{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if line := lines.Text(); line != "" && !strings.HasPrefix(line, "#") {
			want, err := run(line)
			if err != nil {
				results = append(results, result{Template: line, Fails: true})
			} else {
				results = append(results, result{Template: line, Want: &want})
			}
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(map[string]any{"names": names, "cases": results}); err != nil {
		log.Fatal(err)
	}
}
