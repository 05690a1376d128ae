package rules

import (
	"fmt"
	"math"
	"net/url"
	"strings"

	"github.com/spillway-live/spillway/dashboards/queries"
)

// says tells in plain words what is wrong.
func (r *Rule) says(row *Row) string {
	switch r.Name {
	case queries.AlertCDNStalls:
		return fmt.Sprintf("Players on CDN %s stalled for %s of the time watched in the last %s%s.", row.Subject, percent(row.Value), span(r.Window.Seconds()), compared(row))
	case queries.AlertCDNErrors:
		return fmt.Sprintf("%s of the requests to CDN %s failed in the last %s%s.", percent(row.Value), row.Subject, span(r.Window.Seconds()), compared(row))
	case queries.AlertPublisher:
		return fmt.Sprintf("The publisher of %s sends %.2g pictures a second; it sent %.3g before. The stream stands still for its viewers.", row.Subject, row.Value, row.Past)
	case queries.AlertSlicesLag:
		return fmt.Sprintf("Sessions are counted %s late: the sessioniser is behind, or stands still.", span(row.Value))
	case queries.AlertBalance:
		return fmt.Sprintf("%s of %.0f rows of telemetry are not accounted for, or are twice.", percent(row.Value), row.Weight)
	case queries.AlertCapacity:
		return fmt.Sprintf("CDN %s uses %s of its capacity, and %s in a quarter of an hour if it goes on as it did.", row.Subject, percent(row.Past), percent(row.Value))
	case queries.AlertConsumerBehind:
		return fmt.Sprintf("%.0f messages wait for the consumer %s.", row.Value, row.Subject)
	case queries.AlertDeadLetters:
		return fmt.Sprintf("The role %s rejected messages in the last ten minutes; the stream DEAD has %.0f of it.", row.Subject, row.Value)
	case queries.AlertLoaderLag:
		return fmt.Sprintf("ClickHouse lacks the newest %.0f messages of slices: the loader is behind, or stands still.", row.Value)
	case queries.AlertClickHouseAway:
		return fmt.Sprintf("ClickHouse has not answered for %s.", span(row.Value))
	}
	return fmt.Sprintf("%s: %s is %.4g.", r.Title, row.Subject, row.Value)
}

func compared(row *Row) string {
	var with []string
	if !math.IsNaN(row.Others) {
		with = append(with, percent(row.Others)+" on the other CDNs")
	}
	if !math.IsNaN(row.Past) {
		with = append(with, percent(row.Past)+" there over the day before")
	}
	if len(with) == 0 {
		return ""
	}
	return "; " + strings.Join(with, ", ")
}

func percent(v float64) string {
	if v >= 0.1 {
		return fmt.Sprintf("%.0f %%", v*100)
	}
	return fmt.Sprintf("%.2g %%", v*100)
}

func span(seconds float64) string {
	if seconds < 120 {
		return fmt.Sprintf("%.0f s", seconds)
	}
	return fmt.Sprintf("%.0f min", seconds/60)
}

// page is the console's page that explains an alert: that of the CDN or stream,
// else the wall with the rule's panel.
func (r *Rule) page(row *Row) string {
	switch {
	case row.Stream != "":
		return "/streams/" + url.PathEscape(row.App) + "/" + url.PathEscape(row.Stream)
	case row.CDN != "":
		return "/cdns#" + url.PathEscape(row.CDN)
	}
	return "/walls/" + r.Wall + "#" + r.Panel
}
