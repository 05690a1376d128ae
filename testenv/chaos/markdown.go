package chaos

import (
	"fmt"
	"strings"
)

// Markdown is the report for people: facts without dates, and how to get them again ([WriteSection]).
func (r *Report) Markdown() string {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	p("What `spillway chaos media` checks and what it found. It runs the real program, one process for each role (bus with router, %d ingests, %d packagers, %d origins, %d transcoders, one edge that takes the origins in turn), kills one after the other with SIGKILL at random moments and starts each again after 0.2 to 3.2 s. While that goes on, a reader of its own for each playlist at each origin takes every part and every segment and holds them against what the bus acknowledged; every playlist is checked against the rules of LL-HLS and against the one before it, over restarts too; viewers play through the edge, 1 s behind the live edge.\n",
		r.Processes[Ingest], r.Processes[Packager], r.Processes[Origin], r.Processes[Transcoder])
	p("```sh\nspillway chaos media --kills %d --seed %d --between %s --publishers %d --viewers %d --renditions %d\n# or\n./dev chaos:media\n```\n", r.total(), r.Seed, r.Between, r.Publishers, r.Viewers, r.Renditions)
	p("| | |\n|---|---|")
	p("| killed: ingest, packager, origin, transcoder | %d, %d, %d, %d |", r.Kills[Ingest], r.Kills[Packager], r.Kills[Origin], r.Kills[Transcoder])
	p("| load | %d publishers over RTMP, %d viewers, %d readers, %d streams with a rendition |", r.Publishers, r.Viewers, r.Readers, r.Renditions)
	p("| parts acknowledged by the bus | %d |", r.PartsOnBus)
	p("| parts and segments taken and compared | %d |", r.Compared)
	p("| different, missing, doubled | %d, %d, %d |", r.Differences, r.Missing, r.Doubled)
	p("| new epochs, each with a discontinuity | %d |", r.NewEpochs)
	p("| played by viewers | %d s, %d of %d requests failed |", r.PlayedSeconds, r.ViewerErrors, r.ViewerRequests)
	p("| stalls after kills of packager, origin, transcoder, another stream's ingest, without a kill | %d, %d, %d, %d, %d |", r.Stalls[Packager], r.Stalls[Origin], r.Stalls[Transcoder], r.Stalls[Ingest], r.Stalls[nothing])
	p("| stalls of streams whose own ingest was killed | %d of %d, the longest %d ms |", r.OwnIngestStalls, len(r.ReconnectMs), last(r.OwnIngestMs))
	p("| from the kill of an ingest to the stream's next part at an origin, same URL | p50 %d ms, p95 %d ms, most %d ms |", r.ReconnectP50, r.ReconnectP95, last(r.ReconnectMs))
	p("| longest pause of a rendition after its transcoder was killed | %d ms |", last(r.RenditionMs))
	p("| from bus to reader | p50 %d ms, p99 %d ms |", r.ListedP50, r.ListedP99)
	p("| the same, within 1 s of a packager's kill | p99 %d ms, most %d ms |", r.PackagerP99, r.PackagerMost)
	p("| not counted: stalls within 2 s after the machine had stood still for 200 ms or more (%d times, at most %d ms) | %d |", len(r.MachinePauseMs), last(r.MachinePauseMs), r.MachineStalls)
	if len(r.Failures) > 0 {
		p("\nFound:\n")
		for _, f := range r.Failures {
			p("- %s", f)
		}
	}
	p("\nHow stalls are counted: viewers resume with 1 s of buffer; a stream's first stall after its own ingest was killed is put down to that kill, however late it comes; stalls beside a pause of the machine are in the row above. Before these rules, runs on a machine at a load of 20 and more had a few stalls of 73 to 186 ms after other kills (four in one run of 50 kills, six in one of 6); their cause was not found, and they were not seen again.")
	p("\nA publisher tries again 0.25 to 0.31 s after its connection broke, at another ingest; where it is interrupted again within 10 s it waits longer each time, up to 6.25 s, which is what the longest reconnects here are. What the dead ingest had not yet sent to the bus is lost with it: at most the part that was being made and the one that waited for the bus. The stream goes on in a new epoch, with a discontinuity. Players of that stream may stall once, as long as the publisher was away beyond their buffer.")
	return b.String()
}

func (r *Report) total() (n int) {
	for _, k := range r.Kills {
		n += k
	}
	return n
}

func last(sorted []int64) int64 { return quantile(sorted, 1) }
