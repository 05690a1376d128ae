// Time series of a table whose columns are time, perhaps a label, and values.
import { show } from "./units.js";

const HEIGHT = 200, MAX_LINES = 16;
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * pivot makes lines of rows: { times (s), lines: [{ label, values }], left: how many are not drawn }. The step under way is
 * left out: a sum of a part of it would look like a fall.
 */
export function pivot(table, columns) {
  const t = columns.findIndex((c) => c.Unit === "dateTimeAsIso");
  const label = columns.findIndex((c) => c.Unit === "string");
  const values = columns.map((c, i) => ({ c, i })).filter((x) => x.i !== t && x.i !== label);
  const times = [...new Set(table.rows.map((r) => r[t] / 1000))].sort((a, b) => a - b);
  const step = Math.min(...times.slice(1).map((t, i) => t - times[i]));
  if (times.length > 2 && times.at(-1) + step > table.to_ms / 1000) times.pop();
  const at = new Map(times.map((x, i) => [x, i]));
  const lines = new Map();
  for (const r of table.rows) {
    if (!at.has(r[t] / 1000)) continue;
    for (const { c, i } of values) {
      const name = [label >= 0 ? r[label] : "", values.length > 1 || label < 0 ? c.Name : ""].filter((x) => x !== "").join(" ") || "(none)";
      if (!lines.has(name)) lines.set(name, { label: name, unit: c.Unit, values: new Array(times.length).fill(null), most: 0 });
      const l = lines.get(name), v = typeof r[i] === "number" ? r[i] : null;
      l.values[at.get(r[t] / 1000)] = v;
      l.most = Math.max(l.most, v ?? 0);
    }
  }
  const all = [...lines.values()].sort((a, b) => a.label.localeCompare(b.label));
  if (all.length <= MAX_LINES) return { times, lines: all, left: 0 };
  return { times, lines: [...all].sort((a, b) => b.most - a.most).slice(0, MAX_LINES), left: all.length - MAX_LINES };
}

/** draw puts a chart into node, in the place of the one before; it gives how many lines were left out. */
export function draw(node, table, columns, { unit, warn, bad } = {}) {
  const { times, lines, left } = pivot(table, columns);
  const days = table.to_ms - table.from_ms > 2 * 86400e3;
  const key = lines.map((l) => l.label).join("\n") + document.documentElement.dataset.theme + days;
  const data = [times, ...lines.map((l) => l.values)];
  const range = { min: table.from_ms / 1000, max: table.to_ms / 1000 };
  if (node.u && node.u.key === key) {
    node.u.range = range;
    node.u.setData(data);
    return left;
  }
  node.u?.destroy();
  node.replaceChildren();
  const hm = (s) => new Date(s * 1000).toLocaleString([], days ? { month: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit", hour12: false });
  const axis = { stroke: css("--dim"), grid: { stroke: css("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  const levels = (u) => {
    for (const [at, colour] of [[warn, css("--warn")], [bad, css("--bad")]]) {
      if (!at || at > u.scales.y.max) continue;
      const y = u.valToPos(at, "y", true);
      u.ctx.save();
      u.ctx.strokeStyle = colour;
      u.ctx.setLineDash([6, 6]);
      u.ctx.beginPath();
      u.ctx.moveTo(u.bbox.left, y);
      u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
      u.ctx.stroke();
      u.ctx.restore();
    }
  };
  node.u = new window.uPlot({
    width: Math.max(node.clientWidth, 200), height: HEIGHT,
    series: [{ label: "Time", value: (_, t) => (t === null ? "–" : hm(t)) }, ...lines.map((l, i) => ({
      label: l.label, stroke: css("--c" + (i % 8)), width: 2, spanGaps: true, dash: i >= 8 ? [5, 4] : undefined,
      points: { show: times.length < 3, size: 5 }, value: (_, v) => show(v, l.unit || unit),
    }))],
    legend: { live: true, markers: { width: 0, fill: (u, i) => u.series[i].stroke() } }, cursor: { points: { size: 6 } },
    scales: { x: { range: (u) => [u.range?.min ?? range.min, u.range?.max ?? range.max] }, y: { range: (_, lo, hi) => [Math.min(0, lo ?? 0), (hi || 1) * 1.1] } },
    axes: [{ ...axis, space: 80, size: 32, values: (_, ts) => ts.map(hm) }, { ...axis, size: 76, values: (_, vs) => vs.map((v) => show(v, unit)) }],
    hooks: { draw: [levels] },
  }, data, node);
  node.u.key = key;
  return left;
}

/** resize keeps charts as wide as their place. */
export function resize(nodes) {
  const o = new ResizeObserver(() => {
    for (const n of nodes()) n.u?.setSize({ width: Math.max(n.clientWidth, 200), height: HEIGHT });
  });
  o.observe(document.getElementById("main"));
}
