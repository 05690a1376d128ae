// CDNs side by side over time.
import { el } from "./dom.js";
import { cdnTable } from "./cdntable.js";
import { bps, count, ms, percent } from "./format.js";
import { onChange } from "./live.js";

const CHARTS = [
  { title: "Viewers", from: "recent", lines: ["viewers"], show: count },
  { title: "Stall ratio", from: "recent", lines: ["stall_ratio"], show: percent, floor: 0.02 },
  { title: "Live latency", from: "recent", lines: ["latency_ms"], show: ms, floor: 1000 },
  { title: "Egress", from: "recent", lines: ["egress_bps"], show: bps, floor: 1e5 },
  { title: "First screen, p50 and p90 (dashed)", from: "minutes", lines: ["p50_ms", "p90_ms"], show: ms, floor: 500 },
];

export default function (main) {
  const table = cdnTable();
  const grid = el("div", { class: "charts" });
  const charts = CHARTS.map((c) => {
    const plot = el("div", { class: "plot", role: "img", "aria-label": c.title + " by CDN; the table above holds the newest figures" });
    grid.append(el("section", { class: "card chart" }, el("h2", {}, c.title), plot));
    return { ...c, plot, u: null, names: "" };
  });
  main.append(table.node, grid);
  onChange((s) => {
    table.update(s);
    for (const c of charts) draw(c, s);
  });
  const again = () => {
    for (const c of charts) {
      c.u?.destroy();
      c.u = null;
    }
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  new MutationObserver(again).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  new ResizeObserver(() => {
    for (const c of charts) c.u?.setSize({ width: c.plot.clientWidth, height: 190 });
  }).observe(grid);
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = (v) => (typeof v === "number" ? v : null);

function draw(c, s) {
  const data = s[c.from];
  if (!data || !s.cdns || !window.uPlot || !c.plot.clientWidth) return;
  const names = s.cdns.map((x) => x.name);
  const rows = [data.t];
  for (const n of names) for (const l of c.lines) rows.push((data.lines[n]?.[l] ?? data.t.map(() => null)).map(number));
  if (c.u && c.names === names.join("\n")) {
    c.u.setData(rows);
    return;
  }
  c.u?.destroy();
  c.names = names.join("\n");
  const axis = { stroke: css("--dim"), grid: { stroke: css("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  const series = [{ label: "Time", value: (_, t) => (t === null ? "–" : hm(t)) }];
  names.forEach((n, i) => c.lines.forEach((l, j) => series.push({
    label: c.lines.length > 1 ? `${n} ${l.slice(0, 3)}` : n, stroke: css("--c" + (i % 8)), width: 2, spanGaps: false,
    dash: j ? [5, 4] : undefined, points: { show: false }, value: (_, v) => (v === null ? "–" : c.show(v)),
  })));
  c.u = new window.uPlot({
    width: c.plot.clientWidth, height: 190, series,
    legend: { live: true, markers: { width: 0, fill: (u, i) => u.series[i].stroke() } }, cursor: { sync: { key: "cdns" }, points: { size: 6 } },
    scales: { y: { range: (_, lo, hi) => [0, Math.max(c.floor ?? 1, (hi ?? 0) * 1.1)] } },
    axes: [{ ...axis, space: 80, size: 32, values: (_, ts) => ts.map(hm) }, { ...axis, size: 76, values: (_, vs) => vs.map(c.show) }],
  }, rows, c.plot);
}

function hm(unix) {
  return new Date(unix * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
}
