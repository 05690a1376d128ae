// One stream: the player, its publisher, its viewers and its pictures.
import { attr, el, keyed, text } from "./dom.js";
import { bps, clock, count, fps, ms, percent, span, stallLevel } from "./format.js";
import { onChange, serverNow } from "./live.js";
import { details } from "./streamparts.js";
import { PRIVATE, pictureURL } from "./picture.js";
import { draw, spark } from "./spark.js";

const SAMPLES = 180;

export default function (main) {
  const { app, stream: name, router } = document.documentElement.dataset;
  const path = encodeURIComponent(app) + "/" + encodeURIComponent(name);
  const chip = el("span", { class: "chip" });
  main.querySelector("h1").append(" ", chip);

  const img = el("img", { alt: "", hidden: "" });
  const note = el("p", { class: "nopicture" }, "no picture yet");
  const frame = el("div", { class: "frame large" }, img, note);
  const play = el("button", { type: "button", class: "primary" }, "Play here");
  const actions = el("div", { class: "actions" }, play, el("a", { href: "/play/" + path, target: "_blank", rel: "noopener" }, "Open the play page"),
    el("a", { href: `/${path}/picture.jpg`, target: "_blank", rel: "noopener" }, "Latest picture"));
  play.addEventListener("click", () => {
    const there = frame.querySelector("iframe");
    if (there) there.remove();
    else frame.append(el("iframe", { src: "/play/" + path, title: `Player of ${app}/${name}`, allow: "autoplay; fullscreen" }));
    text(play, there ? "Play here" : "Close the player");
  });

  const facts = el("dl", { class: "card pairs" });
  const cells = {};
  for (const k of ["Viewers", "Stall ratio", "Latency", "Frame rate", "Video", "Audio", "Key frame every", "Behind real time", "Time jumps", "Size and codecs", "Published through", "Epoch", "Live for"]) {
    cells[k] = el("dd", {}, "–");
    facts.append(el("div", {}, el("dt", {}, k), cells[k]));
  }
  const graphs = { fps: spark("Frame rate since this page was opened"), bps: spark("Bitrate since this page was opened") };
  const publisher = el("section", { class: "card graphs" }, el("h2", {}, "Publisher, since this page was opened"),
    el("figure", {}, el("figcaption", {}, "Frame rate"), graphs.fps), el("figure", {}, el("figcaption", {}, "Bitrate"), graphs.bps));
  const more = details(path);
  const where = el("ul", { class: "bars" });
  const viewers = el("section", { class: "card" }, el("h2", {}, "Viewers by CDN"), where);
  const strip = el("ol", { class: "strip", tabindex: "0", "aria-label": "Pictures of the last hour, newest first" });
  const history = el("p", { class: "empty" }, "Reading the pictures…");
  const address = router ? el("p", { class: "address" }, "HLS address ", el("code", {}, `${router}/v1/play/${path}/multivariant.m3u8`)) : null;
  main.append(el("div", { class: "two" }, el("div", {}, frame, actions, address), facts), el("div", { class: "two even" }, publisher, viewers),
    el("section", {}, el("h2", {}, "Pictures of the last hour"), history, strip), ...more);

  const samples = [];
  let pictures = [], newest = 0, chosen = Number((location.hash.match(/^#picture-(\d+)$/) ?? [])[1] ?? 0), last = 0, refused = false;

  const show = () => {
    const p = pictures.find((x) => x.seq === chosen) ?? (chosen ? null : pictures[0]);
    if (!p) return;
    const src = pictureURL({ app, stream: name }, p);
    if (img.getAttribute("src") !== src) img.src = src;
    img.alt = `${app}/${name} at ${clock(p.time_ms)}`;
    img.hidden = false;
    note.hidden = true;
    keyed(strip, pictures.slice(0, 240), (x) => x.seq, (x) => {
      const b = el("button", { type: "button", "aria-label": "Show the picture of " + clock(x.time_ms) },
        el("img", { src: pictureURL({ app, stream: name }, x), alt: "", loading: "lazy", width: 128, height: 72 }), el("span", {}, clock(x.time_ms)));
      b.addEventListener("click", () => {
        chosen = chosen === x.seq ? 0 : x.seq;
        window.history.replaceState(null, "", chosen ? "#picture-" + chosen : location.pathname);
        show();
      });
      const li = el("li", {}, b);
      li.button = b;
      return li;
    }, (li, x) => attr(li.button, "aria-pressed", String(x.seq === chosen)));
  };
  const load = async () => {
    try {
      const r = await fetch("/v1/pictures/" + path);
      if (r.status === 401) {
        refused = img.hidden = true;
        note.hidden = false;
        text(note, PRIVATE);
        text(history, `Pictures of this stream are ${PRIVATE}.`);
        history.hidden = false;
        strip.replaceChildren();
        return;
      }
      const a = await r.json();
      if (!r.ok) throw new Error(a.error);
      pictures = a.pictures.reverse();
      newest = Math.max(newest, pictures[0]?.seq ?? 0);
      text(history, pictures.length ? "" : "No picture was taken in the last hour.");
      show();
    } catch (e) {
      text(history, `The pictures could not be read (${e.message}); trying again.`);
      setTimeout(load, 3000);
    }
    history.hidden = pictures.length > 0;
  };
  load();

  onChange((s) => {
    if (!s.streams) return;
    const x = s.streams.find((y) => y.app === app && y.stream === name);
    text(chip, x ? x.state : "not live");
    attr(chip, "class", "chip " + (x ? x.state : "ended"));
    if (!x) return;
    if (x.picture && x.picture.seq > newest && !refused) {
      newest = x.picture.seq;
      pictures = [x.picture, ...pictures.filter((p) => p.seq !== x.picture.seq)].slice(0, 720);
      history.hidden = true;
      show();
    }
    const values = {
      "Viewers": count(x.viewers), "Stall ratio": percent(x.stall_ratio), "Latency": ms(x.latency_ms),
      "Frame rate": fps(x.fps) + (x.nominal_fps ? ` of ${fps(x.nominal_fps)}` : ""), "Video": bps(x.video_bps), "Audio": bps(x.audio_bps),
      "Key frame every": x.keyframe_ms ? ms(x.keyframe_ms) : "–", "Behind real time": ms(x.behind_ms), "Time jumps": count(x.timestamp_jumps),
      "Size and codecs": (x.height ? `${x.width}×${x.height} ` : "") + x.codecs,
      "Published through": [x.protocol, x.cdn].filter(Boolean).join(", CDN ") + (x.encoder ? ` · ${x.encoder}` : ""), "Epoch": String(x.epoch),
      "Live for": x.state === "live" ? span(serverNow() - x.opened_ms) : `${x.state}${x.end_reason ? ": " + x.end_reason : ""}`,
    };
    for (const [k, v] of Object.entries(values)) text(cells[k], v);
    attr(cells["Stall ratio"], "class", stallLevel(x.stall_ratio));
    if (x.state === "live" && x.updated_ms !== last) {
      last = x.updated_ms;
      samples.push(x);
      if (samples.length > SAMPLES) samples.shift();
      draw(graphs.fps, samples.map((y) => y.fps), (x.nominal_fps ?? 0) * 1.2);
      draw(graphs.bps, samples.map((y) => y.video_bps + y.audio_bps), 1e5);
    }
    const order = (s.cdns ?? []).map((c) => c.name);
    const most = Math.max(1, ...x.by_cdn.map((c) => c.viewers));
    keyed(where, x.by_cdn, (c) => c.cdn, () => {
      const li = el("li"), label = el("span"), n = el("span"), bar = el("progress", { max: 1 });
      li.append(label, bar, n);
      li.parts = { label, n, bar };
      return li;
    }, (li, c) => {
      text(li.parts.label, c.cdn || "not known yet");
      text(li.parts.n, count(c.viewers));
      li.parts.bar.value = c.viewers / most;
      attr(li.parts.bar, "aria-label", c.cdn);
      attr(li, "class", "c" + (Math.max(0, order.indexOf(c.cdn)) % 8));
    });
  });
}
