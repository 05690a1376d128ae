// Sparklines: one small SVG line with its area.
import { svg, attr } from "./dom.js";

const W = 100, H = 30;

export function spark(label) {
  const s = svg("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", class: "spark", role: "img", "aria-label": label });
  s.append(svg("path", { class: "area" }), svg("path", { class: "line" }));
  return s;
}

/** draw shows values (null is a gap) from 0 to at least top. */
export function draw(s, values, top) {
  const vs = values ?? [];
  let max = top;
  for (const v of vs) if (typeof v === "number" && v > max) max = v;
  let line = "", area = "", open = -1;
  const x = (i) => (vs.length < 2 ? 0 : (i * W) / (vs.length - 1)).toFixed(1);
  const close = (i) => {
    if (open >= 0) area += `L${x(i)} ${H}L${x(open)} ${H}Z`;
    open = -1;
  };
  vs.forEach((v, i) => {
    if (typeof v !== "number") {
      close(i - 1);
      return;
    }
    const y = (H - 1.5 - (max > 0 ? v / max : 0) * (H - 3)).toFixed(1);
    const cmd = open < 0 ? "M" : "L";
    if (open < 0) open = i;
    line += cmd + x(i) + " " + y;
    area += cmd + x(i) + " " + y;
  });
  close(vs.length - 1);
  attr(s.firstChild, "d", area || "M0 0");
  attr(s.lastChild, "d", line || "M0 0");
}
