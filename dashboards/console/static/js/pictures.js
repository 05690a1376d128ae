// The picture wall: every stream that is live, hundreds at once. Nothing is done
// for cards that are not near the window, and no frame gets more than BUDGET_MS
// of work, so that scrolling never waits for news.
import { attr, el, text } from "./dom.js";
import { bps, clock, count, fps, percent, stallLevel } from "./format.js";
import { onChange, serverNow } from "./live.js";
import { PRIVATE, pictureURL, refused } from "./picture.js";

const BUDGET_MS = 1.2; // the last card takes it over that by a millisecond at most
const IMAGES_A_FRAME = 2;
const NEAR = "400px 0px"; // how far from the window pictures are fetched
const STILL_MS = 800; // cards change places only when nobody has scrolled for so long
const OLD_MS = 30000;

const MARKS = { background: "in background", black: "black", frozen: "frozen", hidden: "hidden" };
const name = (s) => s.app + "/" + s.stream;
const known = (n) => n !== null && n !== undefined;
const byName = (a, b) => (name(a) < name(b) ? -1 : 1);
const by = (f) => (a, b) => (known(f(b)) ? f(b) : -1) - (known(f(a)) ? f(a) : -1) || byName(a, b);
const SORTS = {
  "Name": byName,
  "Viewers": by((s) => s.viewers),
  "Stall ratio": by((s) => s.stall_ratio),
  "Bitrate": by((s) => s.video_bps),
  "Newest": by((s) => s.opened_ms),
  "Off the hot list first": (a, b) => (b.off ? 1 : 0) - (a.off ? 1 : 0) || byName(a, b),
};
const SHOWN = {
  "All streams": () => true,
  "On the hot list": (s) => s.state === "live" && !s.off,
  "Off the hot list": (s) => s.off,
  ...Object.fromEntries(Object.entries(MARKS).map(([k, v]) => [v[0].toUpperCase() + v.slice(1), (s) => s.off?.includes(k)])),
};

export default function pictures(main) {
  const filter = el("input", { type: "search", id: "filter", placeholder: "application/stream", autocomplete: "off", spellcheck: "false" });
  const choose = (id, of) => el("select", { id }, ...Object.keys(of).map((k) => el("option", {}, k)));
  const sort = choose("sort", SORTS), shown = choose("shown", SHOWN);
  const labelled = (label, input) => el("label", { for: input.id }, el("span", {}, label), input);
  const sum = el("p", { class: "note", role: "status" });
  const list = el("ul", { class: "wall pictures", "aria-label": "Pictures of live streams" });
  const empty = el("p", { class: "empty" }, "Waiting for the first news…");
  main.append(el("div", { class: "tools", role: "search" }, labelled("Filter", filter), labelled("Show", shown), labelled("Sort by", sort), sum), list, empty);

  const cards = new Map();
  const queue = new Set(); // cards with something to do, in the order they asked
  let streams = [], order = "", scrolled = 0, running = false, spent = 0; // spent: by news, of the next frame's share

  const near = new IntersectionObserver((entries) => {
    for (const e of entries) {
      e.target.card.near = e.isIntersecting;
      if (e.isIntersecting) ask(e.target.card);
    }
  }, { rootMargin: NEAR });
  addEventListener("scroll", () => { scrolled = performance.now(); }, { passive: true });

  function ask(card) {
    queue.add(card);
    if (!running) {
      running = true;
      requestAnimationFrame(work);
    }
  }

  // work draws what is asked for until the frame's share is spent.
  function work() {
    const until = performance.now() + BUDGET_MS - spent;
    spent = 0;
    let images = IMAGES_A_FRAME;
    for (const card of queue) {
      if (performance.now() >= until) break;
      queue.delete(card);
      if (!card.near || !cards.has(card.key)) continue;
      if (!card.parts) build(card);
      draw(card);
      if (card.wants && images-- > 0) show(card);
      else if (card.wants) queue.add(card);
      if (images <= 0 && card.wants) break;
    }
    running = queue.size > 0;
    if (running) requestAnimationFrame(work);
  }

  function arrange(now) {
    const words = filter.value.trim().toLowerCase();
    const want = streams.filter((s) => SHOWN[shown.value](s) && (!words || name(s).toLowerCase().includes(words))).sort(SORTS[sort.value]);
    const next = want.map(name).join(" ");
    text(sum, `${want.length} of ${streams.length} streams, ${streams.filter((s) => s.off).length} off the hot list`);
    empty.hidden = want.length > 0;
    text(empty, streams.length ? "No stream is like that. Change the filter." : "No stream is live. Publish one over RTMP and it appears here within a second.");
    if (next === order) return;
    if (!now && performance.now() - scrolled < STILL_MS && order.length === next.length) return; // later
    order = next;
    const keep = new Set(want.map(name));
    for (const [k, card] of cards) {
      if (!keep.has(k)) {
        near.unobserve(card.node);
        card.node.remove();
        cards.delete(k);
      }
    }
    let at = list.firstElementChild;
    for (const s of want) {
      let card = cards.get(name(s));
      if (!card) {
        card = { key: name(s), node: el("li", { class: "card stream" }), near: false, stream: s };
        card.node.card = card;
        cards.set(card.key, card);
        near.observe(card.node);
      }
      if (card.node === at) at = at.nextElementSibling;
      else list.insertBefore(card.node, at);
    }
  }

  function take(s) {
    if (!s.streams || s.streams === streams.from) return;
    const begun = performance.now();
    streams = s.streams.filter((x) => x.state !== "ended");
    streams.from = s.streams;
    arrange(false);
    for (const x of streams) {
      const card = cards.get(name(x));
      if (!card) continue;
      card.stream = x;
      if (card.near) ask(card);
    }
    spent = performance.now() - begun;
  }
  onChange(take);
  for (const e of [filter, sort, shown]) e.addEventListener("input", () => arrange(true));
  keys(list, filter);
}

// keys moves between cards with the arrows, and to the filter with a slash.
function keys(list, filter) {
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.altKey || e.metaKey) return;
    if (e.key === "/" && document.activeElement !== filter) {
      e.preventDefault();
      filter.focus();
      return;
    }
    const at = document.activeElement?.closest?.(".pictures > li");
    if (!at) return;
    const columns = getComputedStyle(list).gridTemplateColumns.split(" ").length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -1e9, End: 1e9 }[e.key];
    if (!step) return;
    e.preventDefault();
    const all = [...list.children];
    const to = all[Math.min(all.length - 1, Math.max(0, all.indexOf(at) + step))];
    to.scrollIntoView({ block: "nearest" });
    const focus = (tries) => {
      const a = to.querySelector("a");
      if (a) a.focus();
      else if (tries > 0) requestAnimationFrame(() => focus(tries - 1)); // it is drawn once it is near
    };
    focus(600);
  });
}

function build(card) {
  const s = card.stream;
  const img = el("img", { alt: "", decoding: "async", width: 320, height: 180, hidden: "" });
  const none = el("span", { class: "nopicture" }, "no picture yet");
  const chip = el("span", { class: "chip" }), age = el("span", { class: "age" }), marks = el("span", { class: "marks" });
  const title = el("a", { href: `/streams/${encodeURIComponent(s.app)}/${encodeURIComponent(s.stream)}`, class: "title" });
  title.append(el("span", { class: "app" }, s.app + "/"), s.stream);
  const viewers = el("span", { class: "big" }), stall = el("span", { class: "stall" }), facts = el("span", { class: "facts" });
  card.node.append(el("div", { class: "frame" }, img, none, chip, age, marks), el("div", { class: "text" }, title, el("div", { class: "row" }, viewers, stall), facts));
  card.parts = { img, none, chip, age, marks, viewers, stall, facts };
  img.addEventListener("error", async () => {
    img.hidden = true;
    none.hidden = false;
    if (!await refused(img.src)) return;
    card.refused = true;
    text(none, PRIVATE);
  });
}

function draw(card) {
  const p = card.parts, s = card.stream;
  const off = (s.off ?? []).map((r) => MARKS[r] ?? r);
  text(p.chip, s.state);
  attr(p.chip, "class", "chip " + s.state);
  text(p.marks, off.join(", "));
  card.node.classList.toggle("off", off.length > 0);
  text(p.viewers, count(s.viewers) + (s.viewers === 1 ? " viewer" : " viewers"));
  text(p.stall, percent(s.stall_ratio) + " stalled");
  attr(p.stall, "class", "stall " + stallLevel(s.stall_ratio));
  text(p.facts, [fps(s.fps), bps(s.video_bps + s.audio_bps), s.height ? `${s.width}×${s.height}` : "audio only"].join(" · "));
  if (!s.picture) return;
  text(p.age, clock(s.picture.time_ms));
  p.age.classList.toggle("old", s.state === "live" && serverNow() - s.picture.time_ms > OLD_MS);
  card.wants = !card.refused && card.seq !== s.picture.seq;
}

function show(card) {
  const p = card.parts, s = card.stream;
  card.seq = s.picture.seq;
  card.wants = false;
  p.img.src = pictureURL(s, s.picture);
  p.img.alt = `Picture of ${name(s)} at ${clock(s.picture.time_ms)}`;
  p.img.hidden = false;
  p.none.hidden = true;
}
