// Package axe looks for obstacles on a page with axe-core (npm axe-core 4.10.3,
// MPL 2.0), which is here as its published, minified file with its licence.
package axe

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

//go:embed vendor/axe-core-4.10.3.min.js
var library string

// Violations runs axe-core on the page that a tab shows, with its rules of WCAG
// 2.2 AA and best practice, or only the rules named. It gives a line for each
// violation and element: the rule, what it wants, the element.
func Violations(tab context.Context, rules ...string) ([]string, error) {
	options := `{resultTypes: ["violations"], rules: {"target-size": {enabled: true}}}` // of WCAG 2.2, and off by itself
	if len(rules) > 0 {
		options = fmt.Sprintf(`{resultTypes: ["violations"], runOnly: {type: "rule", values: ["%s"]}}`, strings.Join(rules, `", "`))
	}
	var out []string
	err := chromedp.Run(tab,
		chromedp.Evaluate(`if (!window.axe) {`+library+"\n} true", nil),
		chromedp.Evaluate(`axe.run(document, `+options+`).then((r) => r.violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + v.help + ": " + n.html.slice(0, 200) + " " + (n.any[0]?.message ?? ""))))`, &out,
			func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	if err != nil {
		return nil, fmt.Errorf("run axe-core: %w", err)
	}
	return out, nil
}
