// Overview: totals, CDNs side by side, and the wall of live streams.
import { attr, el, keyed, text } from "./dom.js";
import { cdnTable } from "./cdntable.js";
import { bps, clock, count, fps, ms, percent, span, stallLevel } from "./format.js";
import { onChange, serverNow } from "./live.js";
import { PRIVATE, pictureURL, refused } from "./picture.js";

export default function (main) {
  const tiles = ["Live streams", "Viewers", "Stall ratio", "Latency", "Egress"].map((label) => {
    const value = el("dd");
    value.textContent = "–";
    return { value, node: el("div", { class: "tile" }, el("dt", {}, label), value) };
  });
  const table = cdnTable();
  const wall = el("ul", { class: "wall" });
  const gone = el("ul", { class: "wall gone" });
  const goneTitle = el("h2", { hidden: "" }, "Ended or lost in the last 15 minutes");
  const empty = el("p", { class: "empty" }, "Waiting for the first news…");
  main.append(
    el("dl", { class: "tiles" }, ...tiles.map((t) => t.node)),
    el("section", { "aria-labelledby": "h-cdns" }, el("h2", { id: "h-cdns" }, el("a", { href: "/cdns" }, "CDNs")), table.node),
    el("section", { "aria-labelledby": "h-streams" }, el("h2", { id: "h-streams" }, "Live streams"), wall, empty, goneTitle, gone),
  );
  onChange((s) => {
    const t = s.totals;
    if (t) {
      const values = [count(t.live), count(t.viewers), percent(t.stall_ratio), ms(t.latency_ms), bps(t.egress_bps)];
      tiles.forEach((x, i) => text(x.value, values[i]));
      attr(tiles[2].value, "class", stallLevel(t.stall_ratio));
    }
    table.update(s);
    if (!s.streams) return;
    const live = s.streams.filter((x) => x.state === "live");
    const rest = s.streams.filter((x) => x.state !== "live");
    keyed(wall, live, name, create, update);
    keyed(gone, rest, name, create, update);
    goneTitle.hidden = rest.length === 0;
    empty.hidden = live.length > 0;
    text(empty, "No stream is live. Publish one over RTMP and it appears here within a second.");
  });
}

const name = (s) => s.app + "/" + s.stream;

function create(s) {
  const img = el("img", { alt: "", loading: "lazy", decoding: "async", width: 320, height: 180, hidden: "" });
  const none = el("span", { class: "nopicture" }, "no picture yet");
  const chip = el("span", { class: "chip" }), age = el("span", { class: "age" });
  const title = el("a", { href: `/streams/${encodeURIComponent(s.app)}/${encodeURIComponent(s.stream)}`, class: "title" });
  title.append(el("span", { class: "app" }, s.app + "/"), s.stream);
  const viewers = el("span", { class: "big" }), stall = el("span", { class: "stall" }), facts = el("span", { class: "facts" });
  const node = el("li", { class: "card stream" },
    el("div", { class: "frame" }, img, none, chip, age),
    el("div", { class: "text" }, title, el("div", { class: "row" }, viewers, stall), facts));
  node.parts = { img, none, chip, age, viewers, stall, facts };
  img.addEventListener("error", async () => {
    if (!await refused(img.src)) return;
    node.refused = true;
    text(none, PRIVATE);
    img.hidden = true;
    none.hidden = false;
  });
  return node;
}

function update(node, s) {
  const p = node.parts, shown = s.picture && !node.refused;
  if (shown) {
    const src = pictureURL(s, s.picture);
    if (p.img.getAttribute("src") !== src) p.img.src = src;
    p.img.alt = `Picture of ${name(s)} at ${clock(s.picture.time_ms)}`;
    text(p.age, clock(s.picture.time_ms));
    p.age.classList.toggle("old", s.state === "live" && serverNow() - s.picture.time_ms > 30000);
  }
  p.img.hidden = !shown;
  p.none.hidden = !!shown;
  text(p.chip, s.state);
  attr(p.chip, "class", "chip " + s.state);
  text(p.viewers, s.viewers === null ? "– viewers" : count(s.viewers) + (s.viewers === 1 ? " viewer" : " viewers"));
  text(p.stall, percent(s.stall_ratio) + " stalled");
  attr(p.stall, "class", "stall " + stallLevel(s.stall_ratio));
  text(p.facts, s.state === "live"
    ? [fps(s.fps), bps(s.video_bps + s.audio_bps), s.height ? `${s.width}×${s.height}` : "audio only"].join(" · ")
    : `${s.end_reason || (s.state === "lost" ? "no sign of life from ingest" : "ended")} · ${span(serverNow() - s.updated_ms)} ago`);
}
