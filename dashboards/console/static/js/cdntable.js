// CDNs side by side: the same table on the overview and on the page of CDNs.
import { attr, el, keyed, text } from "./dom.js";
import { bps, count, DASH, ms, percent, STALL_WARN, stallLevel } from "./format.js";
import { draw, spark } from "./spark.js";

const MIN_TOP = { viewers: 1, stall_ratio: STALL_WARN, latency_ms: 1000, egress_bps: 1e5 };

const COLUMNS = [
  { head: "Viewers", unit: "now", line: "viewers" },
  { head: "Stall ratio", unit: "last 20 s", line: "stall_ratio" },
  { head: "First screen", unit: "p50 · p90, 5 min" },
  { head: "Latency", unit: "mean, 20 s", line: "latency_ms" },
  { head: "Egress", unit: "10 s", line: "egress_bps" },
  { head: "Errors", unit: "requests · plays" },
  { head: "Spend", unit: "this month" },
];

export function cdnTable() {
  const head = el("tr", {}, el("th", { scope: "col" }, "CDN"));
  for (const c of COLUMNS) head.append(el("th", { scope: "col" }, c.head, " ", el("small", {}, c.unit)));
  const body = el("tbody");
  const empty = el("p", { class: "empty", hidden: "" }, "No CDN is registered. Add one with: spillway cdn set NAME --url URL");
  const table = el("table", { class: "cdns" }, el("thead", {}, head), body);
  const box = el("div", { class: "card scroll" }, table, empty);
  return {
    node: box,
    update(state) {
      const cdns = state.cdns ?? [];
      empty.hidden = !state.cdns || cdns.length > 0;
      table.hidden = cdns.length === 0;
      keyed(body, cdns.map((c, i) => ({ c, i })), (x) => x.c.name, create, (row, x) => update(row, x.c, x.i, state));
    },
  };
}

function create() {
  const row = el("tr");
  const name = el("a", { class: "name" }), badge = el("span", { class: "badge" });
  row.append(el("th", { scope: "row" }, el("span", { class: "dot" }), name, badge));
  row.parts = { name, badge, cells: [] };
  for (const c of COLUMNS) {
    const value = el("span", { class: "value" }), note = el("span", { class: "note" });
    const line = c.line ? spark(c.head + ", last 15 minutes") : null;
    row.append(el("td", { "data-label": c.head }, el("span", { class: "figures" }, value, note), line));
    row.parts.cells.push({ value, note, line, column: c.line });
  }
  return row;
}

// bill is what the month costs so far, the volume, and the share of the commitment that is used.
function bill(b) {
  if (!b) return [DASH, "", ""];
  const volume = b.gb < 1000 ? `${b.gb.toFixed(1)} GB` : `${(b.gb / 1000).toFixed(1)} TB`;
  const commit = b.commit_share === undefined ? "" : `, ${percent(b.commit_share)} of commitment`;
  return ["$" + b.spend_usd.toFixed(2), "· " + volume + commit, ""];
}

function update(row, c, i, state) {
  const { name, badge, cells } = row.parts;
  text(name, c.name);
  attr(name, "href", "/walls/spillway-streams?cdn=" + encodeURIComponent(c.name));
  attr(row, "id", "cdn-" + c.name);
  attr(row, "class", `c${i % 8} ${c.state}${location.hash === "#" + c.name ? " aimed" : ""}`);
  text(badge, c.state === "active" ? "" : c.state);
  const level = stallLevel(c.stall_ratio);
  const capacity = c.capacity_viewers ? `of ${count(c.capacity_viewers)}` : "";
  const load = c.capacity_bps && c.egress_bps !== null ? `${percent(c.egress_bps / c.capacity_bps)} used` : "";
  const figures = [
    [count(c.viewers), capacity, ""],
    [percent(c.stall_ratio), "", level],
    [ms(c.first_screen_p50_ms), "· " + ms(c.first_screen_p90_ms), ""],
    [ms(c.latency_ms), "", ""],
    [bps(c.egress_bps), load, ""],
    [c.request_error_ratio === null ? DASH : percent(c.request_error_ratio), "· " + count(c.failures), c.request_error_ratio > 0.02 || c.failures > 0 ? "warn" : ""],
  ];
  figures.push(bill(c.bill));
  cells.forEach((cell, j) => {
    const [value, note, cls] = figures[j];
    text(cell.value, value);
    text(cell.note, note);
    attr(cell.value, "class", "value " + cls);
    if (cell.column === "egress_bps" && c.capacity_bps) attr(cell.note, "title", "of " + bps(c.capacity_bps));
    if (cell.line) draw(cell.line, state.recent?.lines?.[c.name]?.[cell.column], MIN_TOP[cell.column]);
  });
}
