// Tables of answers.
import { el } from "./dom.js";
import { show } from "./units.js";

/** heading is a column's name; its unit is written with each value. */
const heading = (c) => c.Name.replaceAll("_", " ").replace(c.Unit === "string" ? /$^/ : / (ms|s|bps|kbps)$/, "");

/** rows makes a table; link gives the address that a cell leads to, or null; level the class of a cell. */
export function rows(table, columns, { caption, link = () => null, level = () => "" } = {}) {
  const number = columns.map((c) => c.Unit !== "string" && c.Unit !== "dateTimeAsIso");
  const head = el("tr", {}, ...columns.map((c, i) => el("th", { scope: "col", class: number[i] ? "n" : "" }, heading(c))));
  const body = el("tbody");
  for (const r of table.rows) {
    const value = (name) => r[columns.findIndex((c) => c.Name === name)];
    body.append(el("tr", {}, ...columns.map((c, i) => {
      const said = show(r[i], c.Unit), to = link(c, value);
      const cls = [number[i] ? "n" : "", level(c, r[i])].filter(Boolean).join(" ");
      return el("td", { class: cls, "data-label": heading(c) }, to ? el("a", { href: to }, said || "(none)") : said);
    })));
  }
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, el("table", { class: "rows" }, el("caption", { class: "unseen" }, caption), el("thead", {}, head), body));
}

/** fetched gives an answer's JSON, or throws the server's reason, with the status of its answer. */
export async function fetched(url, options) {
  const r = await fetch(url, options);
  if (r.status === 204) return null;
  const a = await r.json();
  if (!r.ok) throw Object.assign(new Error(a.error ?? r.statusText), { status: r.status });
  return a;
}

/** address is where a value leads: a session to its story, a stream to its page, another wall. */
export function address(panel, column, value, range) {
  if (column.Name === "session_id") return "/sessions/" + encodeURIComponent(value("session_id"));
  if (column.Name === "stream" && value("stream") && value("app")) return `/streams/${encodeURIComponent(value("app"))}/${encodeURIComponent(value("stream"))}`;
  const l = (panel.Links ?? []).find((x) => x.Column === column.Name);
  if (!l || !value(l.Column)) return null;
  const q = new URLSearchParams({ range });
  for (const [k, c] of Object.entries(l.Vars)) q.set(k, value(c));
  return `/walls/${l.Wall}?${q}`;
}
