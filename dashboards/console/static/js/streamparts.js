// What ClickHouse tells of one stream: its publisher over time, hops, sessions, events.
import { draw, resize } from "./chart.js";
import { el, text } from "./dom.js";
import { asOf } from "./format.js";
import { address, fetched, rows } from "./rows.js";

const unit = (Name, Unit = "string") => ({ Name, Unit });
const T = unit("time", "dateTimeAsIso");

const PARTS = [
  { name: "publisher", title: "Publisher, the last 30 minutes", every: 10000, none: "Ingest has told nothing of this publisher for 30 minutes.",
    charts: [["Frame rate", [T, unit("fps", "fps")], 1], ["Bitrate", [T, unit("bps", "bps")], 2], ["Behind real time, a step", [T, unit("behind_ms", "ms")], 3]] },
  { name: "hops", title: "Hop by hop, the last 5 minutes", every: 15000, none: "No part was looked at in the last 5 minutes: hops are told of streams that are watched.",
    columns: [unit("hop"), unit("cdn"), unit("verdict"), unit("reports", "short"), unit("failed", "percentunit"), unit("p50", "ms"), unit("p95", "ms"), unit("wait", "ms"), unit("probe pace", "short")] },
  { name: "sessions", title: "Sessions of the last 15 minutes, those that stalled most first", every: 10000, none: "Nobody watched in the last 15 minutes.",
    columns: [unit("session_id"), unit("cdn"), unit("region"), unit("isp"), unit("player"), unit("played", "s"), unit("stalled", "s"), unit("stalls", "short"), unit("failures", "short"), unit("moves", "short"), unit("heard", "dateTimeAsIso")] },
  { name: "events", title: "What happened in the last 24 hours", every: 15000, none: "Nothing happened to this stream.",
    columns: [T, unit("kind"), unit("cdn"), unit("reason")] },
];

/** details gives the sections, which keep themselves up to date. */
export function details(path) {
  const plots = [];
  resize(() => plots);
  return PARTS.map((p) => {
    const said = el("p", { class: "said", role: "status" }, "Reading…"), body = el("div", { class: p.charts ? "charts" : "card" });
    const node = el("section", { id: "part-" + p.name }, el("h2", {}, p.title), said, body);
    let last = 0;
    const load = async () => {
      let again = p.every;
      try {
        const t = await fetched(`/v1/streams/${path}/${p.name}`);
        said.hidden = t.rows.length > 0;
        body.hidden = t.rows.length === 0;
        node.classList.remove("stale");
        text(said, p.none);
        if (t.rows.length) paint(p, body, t, plots);
        last = Date.now();
      } catch (e) {
        text(said, `${asOf(last)}${e.message}. Trying again.`);
        said.hidden = false;
        node.classList.add("stale");
        again = 3000;
      }
      setTimeout(load, document.hidden ? 30000 : again);
    };
    load();
    return node;
  });
}

function paint(p, body, t, plots) {
  if (p.columns) {
    if (!body.contains(document.activeElement)) body.replaceChildren(rows(t, p.columns, { caption: p.title, link: (c, value) => address({}, c, value, "1h") }));
    return;
  }
  if (!body.childElementCount) {
    for (const [title] of p.charts) {
      const plot = el("div", { class: "plot", role: "img", "aria-label": title + " over the last 30 minutes" });
      plots.push(plot);
      body.append(el("div", { class: "card chart" }, el("h3", {}, title), plot));
    }
  }
  p.charts.forEach(([, columns, i], j) => draw(body.children[j].querySelector(".plot"), { ...t, rows: t.rows.map((r) => [r[0], r[i]]) }, columns, { unit: columns[1].Unit }));
}
