package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

type reviewRegistry = registry.Registry[schemas.ReviewState]

// reviewKind are the streams that verdicts hid.
var reviewKind = kind[schemas.ReviewState]{
	what: "review", bucket: schemas.BucketReviews, parse: schemas.ParseReviewState, key: streamKey,
	heads: "STREAM\tSTATE\tVERDICT",
	row: func(r *schemas.ReviewState) string {
		state, why := "shown", ""
		if r.Hidden(time.Now()) {
			state = "hidden until " + time.UnixMicro(r.HiddenUntilUs).UTC().Format(time.RFC3339)
			if r.HiddenUntilUs < 0 {
				state = "hidden until lifted"
			}
		}
		if v := r.Verdict; v != nil {
			why = fmt.Sprintf("%s %.2f (%s)", v.Label, v.Score, v.Model)
		}
		return state + "\t" + why
	},
}

// reviewCommand is about verdicts on pictures and what they do.
func (c *commands) reviewCommand() *ffcli.Command {
	var b base
	return c.parent("review", "verdicts on pictures: rules, and the streams they hide",
		reviewKind.list(c, &b, "review list", "list the streams that verdicts hid, and since"),
		c.command("review lift", "APP/STREAM", "show a stream again; verdicts on later pictures may hide it anew", 1, b.register, func(ctx ctx, a []string) error {
			key, err := streamKey(a[0])
			if err != nil {
				return err
			}
			return reviewKind.with(ctx, &b, func(r *reviewRegistry) error {
				if _, err := reviewKind.get(ctx, r, key); err != nil {
					return err
				}
				_, err := r.Edit(ctx, key, func(s *schemas.ReviewState, _ bool) error {
					s.HiddenUntilUs, s.LiftedUs = 0, time.Now().UnixMicro()
					return nil
				})
				return err
			})
		}),
		c.reviewRule(),
		c.command("review address", "", "print the address of the bus for review operators of this machine's \"spillway up\", with its password", 0, b.register, func(_ ctx, _ []string) error {
			r, err := findRun(b.data)
			if err != nil {
				return err
			}
			if r.Review == "" {
				return errors.New("the bus is not this machine's: make a user there with the rights that docs/review/README.md names")
			}
			_, err = fmt.Fprintln(c.stdout, r.Review)
			return err
		}),
	)
}

// reviewRule changes what verdicts of one label do.
func (c *commands) reviewRule() *ffcli.Command {
	var b base
	rule := schemas.ReviewRule{}
	var hideFor time.Duration
	var remove bool
	return c.command("review rule", "APP[/STREAM] LABEL", "say what verdicts with a label do; without --hide, --alert, --mark or --remove print the rules", 2, func(fs *flag.FlagSet) {
		b.register(fs)
		fs.Float64Var(&rule.MinScore, "min-score", 0.9, "least `score` that counts, 0 to 1")
		fs.BoolVar(&rule.Hide, "hide", false, "take the stream off the hot list")
		fs.DurationVar(&hideFor, "hide-for", 0, "how long after the last such verdict; 0: until it is lifted")
		fs.BoolVar(&rule.Alert, "alert", false, "raise the alert review-LABEL")
		fs.BoolVar(&rule.Mark, "mark", false, "keep what was recorded around the picture for 30 days")
		fs.BoolVar(&remove, "remove", false, "remove the rule")
	}, func(ctx ctx, a []string) error {
		key, err := parseAppKey(a[0])
		if err != nil {
			return err
		}
		rule.Label, rule.HideSec = a[1], int64(hideFor/time.Second)
		return appKind.with(ctx, &b, func(r *appRegistry) error {
			if !remove && !rule.Hide && !rule.Alert && !rule.Mark {
				s, err := r.Get(ctx, key)
				if err != nil {
					return err
				}
				b, err := json.MarshalIndent(s.Review, "", "  ")
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(c.stdout, string(b))
				return err
			}
			_, err := r.Edit(ctx, key, func(s *schemas.AppSettings, _ bool) error {
				var rest []schemas.ReviewRule
				for _, o := range s.Review {
					if o.Label != rule.Label {
						rest = append(rest, o)
					}
				}
				if s.Review = rest; !remove {
					s.Review = append(rest, rule)
				}
				return nil
			})
			return err
		})
	})
}
