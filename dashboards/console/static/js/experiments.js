// The list of experiments: drawn by the server, fetched anew while it is looked at.
import { replace } from "./part.js";

export default function (main) {
  const look = async () => {
    try {
      const r = await fetch("/experiments");
      if (r.ok) replace(main, "experiments", new DOMParser().parseFromString(await r.text(), "text/html").getElementById("experiments"));
    } catch { /* the banner says that the server is away; the list stands */ }
    setTimeout(look, 15000);
  };
  setTimeout(look, 15000);
}
