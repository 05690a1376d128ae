// Alerts: what is open, and what was until lately.
import { attr, el, keyed, text } from "./dom.js";
import { span } from "./format.js";
import { onChange, serverNow } from "./live.js";
import { moment, show } from "./units.js";

export default function (main) {
  const open = el("ul", { class: "list alerts" }), over = el("ul", { class: "list alerts over" });
  const none = el("p", { class: "empty" }, "Waiting for the first news…"), before = el("h2", { hidden: "" }, "Over, in the last week");
  main.append(el("h2", {}, "Open"), none, open, before, over,
    el("p", { class: "about" }, "Rules, their thresholds and webhooks: spillway alert rules, spillway alert set."));
  const tick = () => {
    const all = state?.alerts;
    if (!all) return;
    const now = all.filter((a) => a.state === "open"), past = all.filter((a) => a.state !== "open");
    keyed(open, now, key, create, update);
    keyed(over, past, key, create, update);
    none.hidden = now.length > 0;
    text(none, "No alert is open. The role alerts looks every ten seconds; see the log of the process that runs it if you doubt it.");
    before.hidden = past.length === 0;
  };
  let state = null;
  onChange((s) => { state = s; tick(); });
  setInterval(tick, 10000);
}

const key = (a) => a.rule + "\n" + a.subject;

function create(a) {
  const chip = el("span", { class: "chip" }), title = el("a", {}), when = el("span", { class: "when" }), why = el("p", {}), figures = el("p", { class: "about" });
  const li = el("li", { class: "card" }, el("div", { class: "row" }, chip, title, when), why, figures);
  li.parts = { chip, title, when, why, figures };
  return li;
}

function update(li, a) {
  const p = li.parts;
  text(p.chip, a.state);
  attr(p.chip, "class", "chip " + (a.state === "open" ? "lost" : "ended"));
  text(p.title, `${a.rule.replaceAll("_", " ")}: ${a.subject}`);
  attr(p.title, "href", a.page.startsWith("/") && !a.page.startsWith("//") ? a.page : "/alerts");
  text(p.when, a.state === "open" ? `for ${span(serverNow() - a.since_us / 1000)}` : `${moment(a.since_us / 1000)} to ${moment(a.resolved_us / 1000)}`);
  text(p.why, a.reason);
  text(p.figures, `${show(a.value, a.unit)}, alert from ${show(a.threshold, a.unit)} on`);
}
