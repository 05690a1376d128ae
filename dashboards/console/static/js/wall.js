// One wall: the panels of Grafana's dashboard of the same name, drawn here.
import { draw, resize } from "./chart.js";
import { el, text } from "./dom.js";
import { asOf } from "./format.js";
import { address, fetched, rows } from "./rows.js";
import { show } from "./units.js";

const RANGES = ["15m", "1h", "6h", "24h", "7d", "30d"];

export default async function (main) {
  const uid = document.documentElement.dataset.key;
  const query = new URLSearchParams(location.search);
  const range = RANGES.includes(query.get("range")) ? query.get("range") : "1h";
  const note = el("p", { class: "empty" }, "Reading the wall…");
  main.append(note);
  let wall;
  while (!wall) {
    try {
      wall = await fetched("/v1/walls/" + encodeURIComponent(uid));
    } catch (e) {
      text(note, `The wall could not be read (${e.message}); trying again.`);
      await new Promise((r) => setTimeout(r, 3000));
    }
  }
  note.remove();
  const asked = new URLSearchParams({ range });
  for (const v of wall.Variables) for (const x of query.getAll(v.Name)) asked.append(v.Name, x);
  main.append(el("p", { class: "about" }, wall.Description), controls(wall, asked, range));

  const panels = [];
  for (const s of wall.Sections) {
    const grid = el("div", { class: "panels" });
    main.append(el("section", {}, el("h2", {}, s.Title), grid));
    for (const p of s.Panels) {
      const body = el("div", { class: "body" }), said = el("p", { class: "said", role: "status" }, "Reading…");
      const node = el("article", { class: "card panel" + (p.Width > 12 ? " wide" : p.Kind !== "stat" ? "" : p.Description ? " small told" : " small"), id: p.ID },
        el("h3", {}, p.Title), p.Description ? el("p", { class: "about" }, p.Description) : null, said, body,
        el("details", {}, el("summary", {}, "SQL"), el("pre", { tabindex: "0" }, p.SQL)));
      grid.append(node);
      panels.push({ p, node, body, said, seen: false, due: 0, busy: false });
    }
  }
  resize(() => panels.map((x) => x.plot).filter(Boolean));
  const look = new IntersectionObserver((es) => {
    for (const e of es) panels.find((x) => x.node === e.target).seen = e.isIntersecting;
    refresh();
  }, { rootMargin: "300px" });
  for (const x of panels) look.observe(x.node);
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
  const every = range.endsWith("d") ? 60000 : 10000;

  function refresh() {
    if (document.hidden) return;
    for (const x of panels) if (x.seen && !x.busy && Date.now() >= x.due) load(x);
  }
  setInterval(refresh, 1000);

  async function load(x) {
    x.busy = true;
    try {
      const t = await fetched(`/v1/walls/${encodeURIComponent(uid)}/${encodeURIComponent(x.p.ID)}?${asked}`);
      paint(x, t, range);
      x.last = Date.now();
      x.due = Date.now() + every;
    } catch (e) {
      text(x.said, `${asOf(x.last)}${e.message}. Trying again.`);
      x.said.hidden = false;
      x.node.classList.add("stale");
      x.due = Date.now() + 5000;
    }
    x.busy = false;
  }
}

function controls(wall, asked, range) {
  const form = el("form", { class: "controls", method: "get" });
  const select = el("select", { name: "range", id: "range" });
  for (const r of RANGES) select.append(el("option", { value: r, selected: r === range ? "" : null }, "last " + r));
  form.append(el("label", { for: "range" }, "Range "), select);
  for (const v of wall.Variables) {
    const input = el("input", { name: v.Name, id: "var-" + v.Name, size: v.SQL ? 12 : 34, value: asked.getAll(v.Name).join(","), placeholder: v.SQL ? "all" : "id", autocomplete: "off", spellcheck: "false" });
    form.append(el("label", { for: "var-" + v.Name }, v.Label + " "), input);
  }
  form.append(el("button", { type: "submit", class: "primary" }, "Show"));
  const go = () => {
    const q = new URLSearchParams({ range: select.value });
    for (const v of wall.Variables) for (const x of form.elements[v.Name].value.split(",").map((y) => y.trim()).filter(Boolean)) q.append(v.Name, x);
    location.search = q;
  };
  form.addEventListener("submit", (e) => { e.preventDefault(); go(); });
  select.addEventListener("change", go);
  return form;
}

function paint(x, t, range) {
  const { p } = x;
  x.node.classList.remove("stale");
  x.said.hidden = t.rows.length > 0 && !t.cut;
  text(x.said, t.cut ? "Only the first rows are shown: select less." : "Nothing in this range. Choose a longer one, or fewer conditions.");
  const level = (c, v) => (typeof v === "number" && (c.Name === "stall_ratio" || c.Name === "load" || p.Kind === "stat") && p.Bad ? (v >= p.Bad ? "bad" : v >= p.Warn ? "warn" : "ok") : "");
  if (p.Kind === "timeseries") {
    if (!x.plot) {
      x.plot = el("div", { class: "plot", role: "img", "aria-label": p.Title + ", over time" });
      x.body.append(x.plot);
    }
    x.plot.hidden = t.rows.length === 0;
    if (t.rows.length === 0) return;
    const left = draw(x.plot, t, p.Columns, { unit: p.Unit, warn: p.Warn, bad: p.Bad });
    if (left) {
      x.said.hidden = false;
      text(x.said, `${left} lines more are not drawn: select fewer.`);
    }
    return;
  }
  if (x.body.contains(document.activeElement)) return; // nobody loses the place they are at
  if (t.rows.length === 0) x.body.replaceChildren();
  else if (p.Kind === "stat") x.body.replaceChildren(el("dl", { class: "stats" }, ...p.Columns.map((c, i) => el("div", {}, el("dt", {}, c.Name.replaceAll("_", " ")), el("dd", { class: level(c, t.rows[0][i]) }, show(t.rows[0][i], c.Unit))))));
  else if (p.Kind === "bar") {
    const most = Math.max(1, ...t.rows.map((r) => r[1]));
    x.body.replaceChildren(el("ul", { class: "bars" }, ...t.rows.map((r) => el("li", { class: "c0" }, el("span", {}, String(r[0])), el("progress", { max: most, value: r[1], "aria-label": String(r[0]) }), el("span", {}, show(r[1], p.Columns[1].Unit))))));
  } else x.body.replaceChildren(rows(t, p.Columns, { caption: p.Title, link: (c, value) => address(p, c, value, range), level }));
}
