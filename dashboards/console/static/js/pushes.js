// Push targets: what each push does now, and why one fails.
import { el, keyed, text } from "./dom.js";
import { asOf, count, span } from "./format.js";

const HEADS = ["Stream", "To", "State", "Since", "Sent", "Dropped frames", "Reconnects", "Why"];
const LEVEL = { backing_off: "bad", unreadable: "bad", sending: "ok", disabled: "ok", idle: "ok" };

export default function (main) {
  const head = el("tr", {}, el("th", { scope: "col" }, "Target"), ...HEADS.map((h) => el("th", { scope: "col" }, h)));
  const body = el("tbody");
  const empty = el("p", { class: "empty", hidden: "" }, "Nothing is pushed. Add a target with: spillway push add NAME --stream APP/STREAM --url-file FILE");
  const failed = el("p", { class: "empty", role: "status", hidden: "" });
  const table = el("table", { class: "cdns pushes" }, el("thead", {}, head), body);
  main.append(el("div", { class: "card scroll" }, table, empty, failed));
  let last = 0;
  const look = async () => {
    try {
      const r = await fetch("/v1/pushes");
      const a = await r.json();
      if (!r.ok) throw new Error(a.error ?? r.statusText);
      show(a);
      last = Date.now();
      failed.hidden = true;
    } catch (e) {
      text(failed, `${asOf(last)}${e.message}. Trying again.`);
      failed.hidden = false;
    }
    body.classList.toggle("old", !failed.hidden);
    setTimeout(look, 2000);
  };
  const show = (a) => {
    const rows = a.targets.flatMap(rowsOf);
    empty.hidden = rows.length > 0;
    table.hidden = rows.length === 0;
    keyed(body, rows, (r) => r.key, () => create(), (tr, r) => update(tr, r, a.now_ms));
  };
  look();
}

// rowsOf gives a line for each push of a target, or one that says why there is none.
function rowsOf(t) {
  const name = t.app + "/" + (t.stream || "*");
  if (t.error) return [{ key: t.name, name: t.name, stream: "", to: "", phase: "unreadable", why: t.error }];
  if (t.disabled || t.pushes.length === 0) return [{ key: t.name, name: t.name, stream: name, to: t.to, phase: t.disabled ? "disabled" : "idle", why: "" }];
  return t.pushes.map((p) => ({ key: t.name + "\n" + p.app + "/" + p.stream, name: t.name, stream: p.app + "/" + p.stream, to: t.to, phase: p.phase, why: p.reason ?? "", p }));
}

function create() {
  const tr = el("tr", {}, el("th", { scope: "row" }));
  for (const h of HEADS) tr.append(el("td", { "data-label": h }));
  tr.cells[3].append(el("span", { class: "badge" }));
  return tr;
}

function update(tr, r, now) {
  const cells = tr.cells, badge = cells[3].firstChild, p = r.p;
  text(cells[0], r.name);
  text(cells[1], r.stream);
  text(cells[2], r.to);
  text(badge, r.phase.replace("_", " "));
  badge.className = "badge " + (LEVEL[r.phase] ?? "");
  text(cells[4], p ? span(now - p.since_us / 1000) : "");
  text(cells[5], p ? (p.bytes / 1e6).toFixed(1) + " MB" : "");
  text(cells[6], p ? count(p.dropped_frames) : "");
  text(cells[7], p ? count(p.reconnects) : "");
  text(cells[8], r.why);
}
