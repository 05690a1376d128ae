// Where pictures are, and who may not see them.

export const PRIVATE = "private: open Settings with the admin token";

export function pictureURL(s, p) {
  return `/v1/pictures/${encodeURIComponent(s.app)}/${encodeURIComponent(s.stream)}/${p.seq}.jpg`;
}

/** refused says whether a picture that did not load is of a private stream, as images do not. */
export async function refused(src) {
  try {
    return (await fetch(src, { method: "HEAD" })).status === 401;
  } catch {
    return false;
  }
}
