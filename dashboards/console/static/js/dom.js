// Small helpers to build pages. Text only ever enters through text nodes and
// attributes, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** el makes an element; props are attributes, "class" included; children are nodes or text. */
export function el(tag, props = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(props)) if (v !== undefined && v !== null && v !== false) e.setAttribute(k, v);
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

export function svg(tag, props = {}) {
  const e = document.createElementNS(SVG, tag);
  for (const [k, v] of Object.entries(props)) e.setAttribute(k, v);
  return e;
}

/** text sets an element's text only when it differs, so that selections survive. */
export function text(e, s) {
  if (e.textContent !== s) e.textContent = s;
}

export function attr(e, k, v) {
  if (v === null || v === undefined) e.removeAttribute(k);
  else if (e.getAttribute(k) !== String(v)) e.setAttribute(k, v);
}

/** keyed makes parent's children those of items, in order, reusing elements by key. */
export function keyed(parent, items, key, create, update) {
  const have = parent.keyedItems ??= new Map();
  const seen = new Set();
  let at = parent.firstElementChild;
  for (const item of items) {
    const k = key(item);
    seen.add(k);
    let e = have.get(k);
    if (!e) {
      e = create(item);
      have.set(k, e);
    }
    update(e, item);
    if (e === at) at = at.nextElementSibling;
    else parent.insertBefore(e, at);
  }
  for (const [k, e] of have) {
    if (!seen.has(k)) {
      e.remove();
      have.delete(k);
    }
  }
}
