// One playback on one time line: states, the CDNs that served it, decisions, buffer and latency.
import { el, svg, text } from "./dom.js";
import { asOf, clock, ms, span } from "./format.js";
import { onChange } from "./live.js";
import { fetched, rows } from "./rows.js";
import { moment } from "./units.js";

const W = 1000, LEFT = 0, STATE_CLASS = { starting: "st-start", playing: "st-play", stalled: "st-stall", waiting: "st-stall", seeking: "st-seek", paused: "st-pause", ended: "st-end", quit: "st-end", failed: "st-fail" };
const time = (s) => Date.parse(s);

// order is that of the registry: a CDN has the same colour on every page.
let order = [];
const colour = (cdn, names) => "own c" + ((order.includes(cdn) ? order.indexOf(cdn) : order.length + names.indexOf(cdn)) % 8);

export default function (main) {
  const id = document.documentElement.dataset.key;
  const note = el("p", { class: "empty", role: "status" }, "Reading what is stored of the session…"), body = el("div");
  main.append(note, body);
  let shown = "", told = null, last = 0;
  const redraw = () => {
    const now = JSON.stringify([told, order]);
    if (!told || now === shown || body.contains(document.activeElement)) return;
    shown = now;
    body.replaceChildren(...story(told));
  };
  onChange((s) => {
    const now = s.cdns?.map((c) => c.name);
    if (!now || now.join() === order.join()) return;
    order = now;
    redraw();
  });
  const load = async () => {
    let again = 5000;
    try {
      told = await fetched("/v1/sessions/" + encodeURIComponent(id));
      last = Date.now();
      note.hidden = true;
      redraw();
      if (told.end_reason) again = 30000;
    } catch (e) {
      text(note, `${asOf(last)}${e.message}. Trying again.`);
      note.hidden = false;
    }
    body.classList.toggle("old", !note.hidden);
    setTimeout(load, document.hidden ? 30000 : again);
  };
  load();
}

function story(s) {
  const facts = [["Stream", el("a", { href: `/streams/${encodeURIComponent(s.app)}/${encodeURIComponent(s.stream)}` }, `${s.app}/${s.stream}`)],
    ["Viewer", [s.region, s.isp].filter(Boolean).join(", ") || "–"], ["Player", [s.client, s.device].filter(Boolean).join(", ") || "–"], ["Experiments", s.arms || "none"],
    ["Played", span(sum(s.stays, "played_ms"))], ["Stalled", `${sum(s.stays, "stalls")} times, ${ms(sum(s.stays, "stalled_ms"))}`],
    ["First picture", s.stays?.[0]?.startup_ms ? ms(s.stays[0].startup_ms) : "–"], ["End", s.end_reason ? s.end_reason.replaceAll("_", " ") : "still open when this was stored"]];
  return [
    el("dl", { class: "card pairs cols" }, ...facts.map(([k, v]) => el("div", {}, el("dt", {}, k), el("dd", {}, v)))),
    timeline(s),
    el("section", {}, el("h2", {}, "Where routers sent it, and why"), decisions(s)),
    el("section", {}, el("h2", {}, "Where it was served"), stays(s)),
  ];
}

const sum = (l, k) => (l ?? []).reduce((n, x) => n + (x[k] ?? 0), 0);

function timeline(s) {
  const states = s.states ?? [], samples = s.samples ?? [], stays = s.stays ?? [], ds = s.decisions ?? [];
  const all = [...states.flatMap((x) => [time(x.from), time(x.to)]), ...stays.flatMap((x) => [time(x.from), time(x.to)]), ...ds.map((x) => time(x.at)), ...samples.map((x) => time(x.at))];
  if (all.length === 0) return el("p", { class: "empty" }, "There is nothing to draw.");
  const from = Math.min(...all), to = Math.max(from + 1000, ...all);
  const x = (t) => LEFT + ((t - from) / (to - from)) * (W - LEFT);
  const g = svg("svg", { viewBox: `0 0 ${W} 190`, class: "timeline", role: "img", preserveAspectRatio: "none", "aria-label": `Time line from ${moment(from)} to ${moment(to)}: states of the player, CDNs, decisions, buffer. The tables below say the same.` });
  const box = (a, b, y, h, cls, title) => {
    const r = svg("rect", { x: x(a).toFixed(2), y, width: Math.max(1, x(b) - x(a)).toFixed(2), height: h, class: cls });
    const t = svg("title");
    t.textContent = title;
    r.append(t);
    g.append(r);
  };
  for (const p of states) box(time(p.from), time(p.to), 4, 40, STATE_CLASS[p.state] ?? "st-end", `${p.state} ${clock(time(p.from))}, ${ms(time(p.to) - time(p.from))}`);
  const names = [...new Set([...stays.map((p) => p.cdn), ...ds.map((d) => d.chosen)].filter(Boolean))].sort();
  stays.forEach((p, i) => box(time(p.from), i + 1 < stays.length ? time(stays[i + 1].from) : time(p.to), 52, 26, colour(p.cdn, names), `${p.cdn || "not known"} from ${clock(time(p.from))}`));
  for (const d of ds) box(time(d.at), time(d.at), 84, 18, "mark" + (d.previous && d.previous !== d.chosen ? " moved" : ""), `${clock(time(d.at))} ${d.kind}: ${d.previous ? d.previous + " to " : ""}${d.chosen} (${d.reason_code})`);
  const most = Math.max(1000, ...samples.map((p) => Math.max(p.buffer_ms ?? 0, p.latency_ms ?? 0)));
  for (const [k, cls] of [["latency_ms", "line lat"], ["buffer_ms", "line buf"]]) {
    const pts = samples.filter((p) => p[k] !== undefined && p[k] !== null);
    if (pts.length > 1) g.append(svg("path", { class: cls, d: pts.map((p, i) => (i ? "L" : "M") + x(time(p.at)).toFixed(1) + " " + (186 - (p[k] / most) * 76).toFixed(1)).join("") }));
  }
  for (const p of samples) if (p.error) box(time(p.at), time(p.at), 4, 182, "mark fail", `${clock(time(p.at))} error ${p.error}`);
  const swatch = (cls, name) => el("li", {}, el("span", { class: "swatch " + cls }), name);
  return el("section", { class: "card story" }, el("h2", {}, "Time line"),
    el("ul", { class: "key" }, swatch("st-start", "starting"), swatch("st-play", "playing"), swatch("st-stall", "stalled"), swatch("st-seek", "seeking"), swatch("st-pause", "paused"),
      ...names.map((n) => swatch(colour(n, names), "CDN " + n)), swatch("mark moved", "moved by a router"), swatch("buf", `buffer, up to ${ms(most)}`), swatch("lat", "latency")),
    g, el("p", { class: "ends" }, el("span", {}, moment(from)), el("span", {}, moment(to))),
    s.exact ? null : el("p", { class: "about" }, "The player's own reports are kept for two weeks; states are put together from sums of a few seconds each."));
}

function decisions(s) {
  if (!s.decisions?.length) return el("p", { class: "empty" }, "No router decided anything about it.");
  const t = { rows: s.decisions.map((d) => [time(d.at), d.kind, d.previous ?? "", d.chosen, d.reason_code, d.policy, d.probability, d.repeated ?? 0,
    (d.candidates ?? []).map((c) => `${c.cdn}${c.excluded ? " out: " + c.excluded : ` ${c.score.toFixed(2)}`}`).join(" · ")]) };
  return rows(t, cols("at dateTimeAsIso", "kind", "before", "sent to", "because", "policy", "probability percentunit", "said again short", "candidates and scores"), { caption: "Decisions" });
}

function stays(s) {
  if (!s.stays?.length) return el("p", { class: "empty" }, "Nothing was served yet.");
  const t = { rows: s.stays.map((p) => [time(p.from), time(p.to), p.cdn, p.played_ms, p.stalls ?? 0, p.stalled_ms ?? 0, p.latency_ms ?? null, p.request_errors ?? 0]) };
  return rows(t, cols("from dateTimeAsIso", "to dateTimeAsIso", "cdn", "played ms", "stalls short", "stalled ms", "latency ms", "failed requests short"), { caption: "CDNs that served" });
}

// cols reads "name unit", unit being the last word where it is one.
function cols(...list) {
  return list.map((s) => {
    const m = s.match(/^(.*) (dateTimeAsIso|percentunit|short|ms)$/);
    return m ? { Name: m[1], Unit: m[2] } : { Name: s, Unit: "string" };
  });
}
