// Parts of pages that the server draws, with html/template: names in them are text there already.

/** part fetches markup; its error is the server's reason. */
export async function part(url) {
  const r = await fetch(url);
  if (!r.ok) throw new Error((await r.json()).error ?? r.statusText);
  return new DOMParser().parseFromString(await r.text(), "text/html").body;
}

/** replace puts a new element in the place of the one with the id, unless nothing changed or somebody is in it. */
export function replace(root, id, next) {
  const old = root.querySelector("#" + id);
  if (old && next && !old.contains(document.activeElement) && old.innerHTML !== next.innerHTML) old.replaceWith(document.adoptNode(next));
}
