package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"

	"github.com/spillway-live/spillway/schemas"
	"github.com/spillway-live/spillway/schemas/registry"
)

type appRegistry = registry.Registry[schemas.AppSettings]

// appKind are the settings of applications and streams.
var appKind = kind[schemas.AppSettings]{
	what: "entry", bucket: schemas.BucketApps, parse: schemas.ParseAppSettings, key: parseAppKey,
	heads: "APP[/STREAM]\tSETTINGS",
	row:   func(a *schemas.AppSettings) string { return strings.Join(appText(a), "  ") },
}

// appCommand reads and changes the settings of applications and streams.
func (c *commands) appCommand() *ffcli.Command {
	var b base
	var asJSON bool
	return c.parent("app", "settings of applications and streams",
		appKind.list(c, &b, "app list", "list what is set"),
		c.command("app show", "APP[/STREAM]", "show the settings that hold", 1, func(fs *flag.FlagSet) {
			b.register(fs)
			fs.BoolVar(&asJSON, "json", false, "print JSON")
		}, func(ctx ctx, a []string) error {
			return appKind.with(ctx, &b, func(r *appRegistry) error { return c.showApp(ctx, r, a[0], asJSON) })
		}),
		c.appSet(&b),
		appKind.remove(c, &b, "app unset", "APP[/STREAM]", "remove the settings: a stream's application's hold again, or none"),
	)
}

// showApp prints what holds for a stream or an application and where it is set.
func (c *commands) showApp(ctx ctx, r *appRegistry, name string, asJSON bool) error {
	key, err := parseAppKey(name)
	if err != nil {
		return err
	}
	from := "set here"
	a, err := r.Get(ctx, key)
	if app, _, ofStream := strings.Cut(key, "."); errors.Is(err, registry.ErrNone) && ofStream {
		from = "set for application " + app
		a, err = r.Get(ctx, app)
	}
	if errors.Is(err, registry.ErrNone) {
		from, a, err = "nothing is set: the defaults hold", &schemas.AppSettings{}, nil
	}
	if err != nil {
		return err
	}
	if asJSON {
		return c.printJSON(a)
	}
	fmt.Fprintf(c.stdout, "%s (%s)\n", name, from)
	for _, line := range appText(a) {
		fmt.Fprintln(c.stdout, "  "+line)
	}
	return nil
}

// appText writes settings as the flags that make them.
func appText(a *schemas.AppSettings) []string {
	var out []string
	if a.Private {
		out = append(out, "--private")
	}
	if a.SecondPublisher != "" {
		out = append(out, "--second-publisher "+string(a.SecondPublisher))
	}
	if a.PublishHookURL != "" {
		out = append(out, "--publish-hook "+redactURL(a.PublishHookURL))
	}
	if len(a.Ladder) > 0 {
		out = append(out, "--ladder "+ladderText(a.Ladder))
	}
	if e := a.Encryption; e != nil {
		out = append(out, "--encrypt "+e.Scheme, "--key-url "+redactURL(e.KeyURL))
		if e.RotateSegments > 0 {
			out = append(out, "--rotate-segments "+strconv.FormatUint(e.RotateSegments, 10))
		}
	}
	if a.Policy != "" {
		out = append(out, "--policy "+a.Policy)
	}
	if a.Steering != "" {
		out = append(out, "--steering "+a.Steering)
	}
	if a.DVRSec > 0 {
		out = append(out, "--dvr "+(time.Duration(a.DVRSec)*time.Second).String())
	}
	if w := a.WhenFull; w != nil {
		steps := strings.Join(w.Steps, ",")
		out = append(out, "--when-full "+cmp.Or(steps, "none"))
		if w.CapBps > 0 {
			out = append(out, fmt.Sprintf("--cap %dk", w.CapBps/1000))
		}
	}
	if a.PackageAlways {
		out = append(out, "--package-always")
	}
	if p := a.PublisherPolicy; p != nil {
		out = append(out, publisherPolicyText(p)...)
	}
	if p := a.Pictures; p != nil {
		out = append(out, pictureSettingsText(p)...)
	}
	if len(out) == 0 {
		out = append(out, "(defaults)")
	}
	return out
}

// appFlags are the settings as given on the command line.
type appFlags struct {
	whenFull, cap         string
	private, always       bool
	second, hook, ladder  string
	policy, steering      string
	encrypt, keyURL, file string
	rotate                uint64
	dvr                   time.Duration
	publisher             publisherPolicyFlags
	pictures              pictureSettingsFlags
}

func (f *appFlags) register(fs *flag.FlagSet) {
	fs.BoolVar(&f.private, "private", false, "it plays only with a play key, or through a share")
	fs.StringVar(&f.second, "second-publisher", "", "who has the stream when a second publisher comes: newest or refuse")
	fs.StringVar(&f.hook, "publish-hook", "", "`URL` that is asked whether a publisher is admitted; \"\" is none")
	fs.StringVar(&f.ladder, "ladder", "", "renditions made while it is watched, `720p:2500k,480p:1000k`; \"\" is none")
	fs.StringVar(&f.policy, "policy", "", "routing `policy` of its sessions (spillway policy list); \"\" is the router's")
	fs.StringVar(&f.steering, "steering", "", "on: players get content steering; off: backups of each variant; \"\": as their user agent tells")
	fs.StringVar(&f.encrypt, "encrypt", "", "cbcs, or none")
	fs.StringVar(&f.keyURL, "key-url", "", "`URL` where keys come from: file:///PATH, http(s)://")
	fs.Uint64Var(&f.rotate, "rotate-segments", 0, "segments that one key encrypts; 0: one key for ever")
	fs.DurationVar(&f.dvr, "dvr", 0, "how far back viewers may seek; 0: the live window only")
	fs.StringVar(&f.whenFull, "when-full", "", "what sessions get when all CDNs are full, in this order: `cap,queue`, cap, queue or none; \"\" is cap,queue")
	fs.StringVar(&f.cap, "cap", "", "highest `bitrate` under the cap, e.g. 1500k; \"\" is 1500k")
	fs.BoolVar(&f.always, "package-always", false, "make parts of streams that nobody watches, too")
	f.publisher.register(fs)
	f.pictures.register(fs)
	fs.StringVar(&f.file, "file", "", "JSON `file` that replaces all settings (- is standard input)")
}

func (c *commands) appSet(b *base) *ffcli.Command {
	var f appFlags
	var flags *flag.FlagSet
	return c.command("app set", "APP[/STREAM]", "change what is given of the settings; a stream's own settings replace its application's as a whole", 1, func(fs *flag.FlagSet) {
		b.register(fs)
		f.register(fs)
		flags = fs
	}, func(ctx ctx, a []string) error {
		key, err := parseAppKey(a[0])
		if err != nil {
			return err
		}
		edit, err := c.appEdit(&f, given(flags), key)
		if err != nil {
			return err
		}
		return appKind.with(ctx, b, func(r *appRegistry) error {
			app, _, ofStream := strings.Cut(key, ".")
			_, err := r.Edit(ctx, key, func(s *schemas.AppSettings, found bool) error {
				if !found && ofStream {
					// A stream's entry replaces its application's: it begins as a copy,
					// or setting one thing of a stream would undo another.
					if of, err := r.Get(ctx, app); err == nil {
						*s = *of
					} else if !errors.Is(err, registry.ErrNone) {
						return err
					}
				}
				return edit(s)
			})
			return err
		})
	})
}

// appEdit turns the flags that were given into a change.
func (c *commands) appEdit(f *appFlags, set map[string]bool, key string) (func(*schemas.AppSettings) error, error) {
	if f.file != "" {
		data, err := c.readFile("settings", f.file)
		if err != nil {
			return nil, err
		}
		s, err := schemas.ParseAppSettings(key, data)
		if err != nil {
			return nil, fmt.Errorf("settings in %s: %w", f.file, err)
		}
		return func(a *schemas.AppSettings) error { *a = *s; return nil }, nil
	}
	ladder, err := parseLadder(f.ladder)
	if err != nil {
		return nil, fmt.Errorf("--ladder: %w", err)
	}
	publisher, err := f.publisher.edit(set)
	if err != nil {
		return nil, err
	}
	if f.dvr%time.Second != 0 {
		return nil, fmt.Errorf("--dvr %s: whole seconds are kept", f.dvr)
	}
	names := []string{"private", "second-publisher", "publish-hook", "ladder", "encrypt", "key-url", "rotate-segments", "dvr", "package-always", "policy", "steering", "when-full", "cap"}
	names = append(append(names, publisherPolicyNames...), pictureSettingsNames...)
	any := false
	for _, n := range names {
		any = any || set[n]
	}
	if !any {
		return nil, fmt.Errorf("say what to set: --%s or --file", strings.Join(names, ", --"))
	}
	return func(a *schemas.AppSettings) error {
		if set["policy"] {
			a.Policy = f.policy
		}
		if set["steering"] {
			a.Steering = f.steering
		}
		if set["private"] {
			a.Private = f.private
		}
		if set["second-publisher"] {
			a.SecondPublisher = schemas.SecondPublisher(f.second)
		}
		if set["publish-hook"] {
			a.PublishHookURL = f.hook
		}
		if set["ladder"] {
			a.Ladder = ladder
		}
		if set["dvr"] {
			a.DVRSec = int64(f.dvr / time.Second)
		}
		if err := f.full(a, set); err != nil {
			return err
		}
		if set["package-always"] {
			a.PackageAlways = f.always
		}
		if err := publisher(a); err != nil {
			return err
		}
		if err := f.pictures.edit(a, set); err != nil {
			return err
		}
		return f.encryption(a, set)
	}, nil
}

// full sets what degrades when all CDNs are full.
func (f *appFlags) full(a *schemas.AppSettings, set map[string]bool) error {
	if !set["when-full"] && !set["cap"] {
		return nil
	}
	w := *cmp.Or(a.WhenFull, schemas.DefaultWhenFull)
	if set["when-full"] {
		switch f.whenFull {
		case "":
			w.Steps = schemas.DefaultWhenFull.Steps
		case "none":
			w.Steps = []string{}
		default:
			w.Steps = splitList(f.whenFull)
		}
	}
	if set["cap"] {
		w.CapBps = 0
		if f.cap != "" {
			bps, err := parseRate(f.cap)
			if err != nil {
				return fmt.Errorf("--cap: %w", err)
			}
			w.CapBps = bps
		}
	}
	a.WhenFull = &w
	return nil
}

func (f *appFlags) encryption(a *schemas.AppSettings, set map[string]bool) error {
	if set["encrypt"] && (f.encrypt == "" || f.encrypt == "none") {
		a.Encryption = nil
		return nil
	}
	if !set["encrypt"] && !set["key-url"] && !set["rotate-segments"] {
		return nil
	}
	e := schemas.Encryption{}
	if a.Encryption != nil {
		e = *a.Encryption
	}
	if set["encrypt"] {
		e.Scheme = f.encrypt
	} else if e.Scheme == "" {
		return errors.New("--key-url and --rotate-segments are of encryption: give --encrypt cbcs too")
	}
	if set["key-url"] {
		e.KeyURL = f.keyURL
	}
	if set["rotate-segments"] {
		e.RotateSegments = f.rotate
	}
	a.Encryption = &e
	return nil
}

// parseLadder reads "720p:2500k,480p:1000k": height and video bitrate.
func parseLadder(s string) ([]schemas.Rung, error) {
	if s == "" {
		return nil, nil
	}
	var out []schemas.Rung
	for _, part := range strings.Split(s, ",") {
		name, rate, ok := strings.Cut(strings.TrimSpace(part), ":")
		height, err := strconv.Atoi(strings.TrimSuffix(name, "p"))
		if !ok || err != nil {
			return nil, fmt.Errorf("%q is not HEIGHTp:BITRATE such as 720p:2500k", part)
		}
		bps, err := parseRate(rate)
		if err != nil {
			return nil, err
		}
		out = append(out, schemas.Rung{Name: strconv.Itoa(height) + "p", Height: height, BitrateBps: bps})
	}
	return out, nil
}

func ladderText(l []schemas.Rung) string {
	s := make([]string, len(l))
	for i, r := range l {
		s[i] = fmt.Sprintf("%s:%dk", r.Name, r.BitrateBps/1000)
	}
	return strings.Join(s, ",")
}
